"""Every benchmark is there under the name that its docstring and docs/benchmarks.md give."""

import re
from pathlib import Path

import pytest

from tests.support.benchmarks import help_of

ROOT = Path(__file__).parents[2]
# That what the page says of them is right, tests/docs/test_commands.py shows.
COMMAND = re.compile(r"python -m (benchmarks\.[\w.]+)")
FLAG = re.compile(r"--[a-z][\w-]*")
BENCHMARKS = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in (ROOT / "benchmarks").rglob("*.py")
    if "\ndef main()" in path.read_text()
)


@pytest.mark.parametrize("module", BENCHMARKS)
def test_help_is_the_docstring_and_names_every_flag_of_its_usage(module: str) -> None:
    description, flags = help_of(module).split("options:")
    usage = description.partition("Usage: ")[2].partition("\n\n")[0]
    assert usage.startswith(f"python -m {module}")
    assert {*FLAG.findall(usage)} <= {*FLAG.findall(flags)}


def test_the_page_of_results_names_every_benchmark() -> None:
    page = (ROOT / "docs/benchmarks.md").read_text()
    assert {*COMMAND.findall(page)} == {*BENCHMARKS}
