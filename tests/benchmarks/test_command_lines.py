"""Every benchmark is there under the name that its docstring and docs/benchmarks.md give."""

import re
import sys
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMAND = re.compile(r"python -m (benchmarks\.[\w.]+)((?: --[\w-]+(?: [^\s`-][^\s`]*)?)*)")
FLAG = re.compile(r"--[a-z][\w-]*")
BENCHMARKS = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in (ROOT / "benchmarks").rglob("*.py")
    if "\ndef main()" in path.read_text()
)


def shown(module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """What `python -m module --help` prints."""
    monkeypatch.setattr(sys, "argv", [module, "--help"])
    with pytest.raises(SystemExit) as end:
        import_module(module).main()
    assert end.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("module", BENCHMARKS)
def test_help_is_the_docstring_and_names_every_flag_of_its_usage(
    module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    description, flags = shown(module, monkeypatch, capsys).split("options:")
    usage = description.partition("Usage: ")[2].partition("\n\n")[0]
    assert usage.startswith(f"python -m {module}")
    assert {*FLAG.findall(usage)} <= {*FLAG.findall(flags)}


def test_the_page_of_results_names_benchmarks_and_flags_that_exist(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = " ".join((ROOT / "docs/benchmarks.md").read_text().split())
    found = COMMAND.findall(page)
    assert {module for module, _ in found} == {*BENCHMARKS}
    for module, flags in found:
        known = shown(module, monkeypatch, capsys)
        assert {*FLAG.findall(flags)} <= {*FLAG.findall(known)}
