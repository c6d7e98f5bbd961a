"""Benchmarks, as a command line starts them."""

import io
from contextlib import redirect_stdout
from importlib import import_module

import pytest


def help_of(module: str) -> str:
    """What `python -m module --help` prints."""
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(said):
        patch.setattr("sys.argv", [module, "--help"])
        with pytest.raises(SystemExit) as end:
            import_module(module).main()
    assert end.value.code == 0
    return said.getvalue()
