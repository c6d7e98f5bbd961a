"""The report: one self-contained HTML page, built only from the files of a run folder.

It can be built at any moment: while a run goes on, after an interruption, with damaged tables.
Rebuild it with `decrop report RUN`, or `python -m results.report RUN`.
"""

from collections.abc import Mapping
from pathlib import Path

from results import files
from results.report.command import main
from results.report.page import render
from results.report.state import Notes, read_anyway
from results.run import Run
from results.store import write_text
from results.verdict import Verdict

__all__ = ["build_report", "main", "write_report"]


def build_report(folder: Path, out: Path | None = None) -> tuple[Path, list[str]]:
    """Write the report of a run folder from what its files say, to `out` or into the folder.

    Returns:
        The path of the report, and a line for each file that could not be used, which the report
        shows too.

    Raises:
        StoreError: if it is not a run folder.
        OSError: if the report cannot be written.
    """
    run, verdicts, notes = read_anyway(folder)
    path = out or folder / files.REPORT
    write_text(path, render(run, verdicts, notes))
    return path, notes.problems


def write_report(run: Run, verdicts: Mapping[str, Verdict]) -> Path:
    """Write report.html of a run that has ended and was read, with its verdicts.

    Returns:
        The path of the report.
    """
    path = run.folder / files.REPORT
    write_text(path, render(run, verdicts, Notes()))
    return path
