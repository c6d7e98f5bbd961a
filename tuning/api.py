"""The commands as functions, for notebooks and scripts.

    from tuning.api import certify, search

    run = search(dataset="digits", shots=10, name="digits")
    print(run)                      # what was proved
    run.summary.to_pandas()
    run.curves()                    # a picture, in a notebook
    certify(run.folder, n=100_000)

Their keywords are the flags of the commands, with _ for -.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from results.objects import RunResults
from tuning.cluster.ending import ENDING, GRACEFUL
from tuning.config import check_values
from tuning.errors import ConfigError


def search(*, resume: bool = False, quiet: bool = False, **flags: Any) -> RunResults:
    """What `decrop launch` does: search, certify and report; with `resume`, continue a run.

    Raises:
        RunError: with the message for the user; `ConfigError` is one, and names the keyword.
    """
    from tuning.run.start import start

    with _in_this_process(flags, "search(resume=True, ...) continues from here"):
        folder = start(
            _checked(flags),
            config_file=None,
            resume=resume,
            dry_run=False,
            as_json=False,
            quiet=quiet,
            detach=False,
        )
    assert folder is not None
    return RunResults(folder)


def certify(
    source: Path | str | None = None,
    *,
    denoiser: Path | str | None = None,
    sigma: float | None = None,
    out: Path | str | None = None,
    quiet: bool = False,
    **flags: Any,
) -> RunResults:
    """What `decrop certify` does: certify a run, an export or a denoiser file again.

    Raises:
        RunError: with the message for the user; `ConfigError` is one, and names the keyword.
    """
    from tuning.run.certify_again import certify_again

    with _in_this_process(flags, "the same call continues from here"):
        folder = certify_again(
            _path(source),
            denoiser=_path(denoiser),
            sigma=sigma,
            out=_path(out),
            flags=_checked(flags),
            quiet=quiet,
            detach=False,
        )
    assert folder is not None
    return RunResults(folder)


def _checked(flags: dict[str, Any]) -> dict[str, Any]:
    check_values(flags)
    return flags


def _path(value: Path | str | None) -> Path | None:
    return None if value is None else Path(value)


@contextmanager
def _in_this_process(flags: dict[str, Any], then: str) -> Iterator[None]:
    """Carry out a run in a process that goes on after it.

    Raises:
        ConfigError: when its Ray would not be the run's own, or it would be a job elsewhere.
    """
    if "ray" in sys.modules and sys.modules["ray"].is_initialized():
        raise ConfigError("Ray is running in this process; call ray.shutdown() first")
    if str(flags.get("cluster") or "").startswith("http"):
        raise ConfigError("--cluster: a job needs the command line, decrop launch --cluster URL")
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, *GRACEFUL)}
    # A notebook's cells run inside its event loop, which waits meanwhile; the run has its own.
    around = asyncio._get_running_loop()
    asyncio._set_running_loop(None)
    try:
        with ENDING.listening(then):
            yield
    finally:
        asyncio._set_running_loop(around)
        for number, handler in before.items():
            signal.signal(number, handler)
