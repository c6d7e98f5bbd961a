"""The command `decrop report`."""

import sys
from collections.abc import Sequence
from pathlib import Path

from results.command_line import CommandLine, fail, one_line


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the report's path and return 0; if there can be none, say why in a line and return 2.

    What cannot be read of a run is left out of its report, which names it; so does standard error.
    """
    # Not at the top: `results.report` names this function.
    from results.report import build_report
    from results.report.compare import write_comparison

    line = CommandLine("decrop report", description=_DESCRIPTION)
    line.add_argument("run", type=Path, nargs="+", help="run folder, for example runs/digits")
    line.add_argument(
        "--out", type=Path, metavar="FILE.html",
        help="where to write the page; by default report.html in the run folder",
    )  # fmt: skip
    given = line.parse_args(arguments)
    if len(given.run) > 1 and given.out is None:
        line.error("--out: is needed to compare runs, for example --out compared.html")
    try:
        if len(given.run) > 1:
            path, problems = write_comparison(given.run, given.out)
        else:
            path, problems = build_report(given.run[0], given.out)
    except (ValueError, OSError) as error:
        return fail(str(error))
    for problem in problems:
        print("warning: left out of the report:", one_line(problem), file=sys.stderr)
    print(path)
    return 0


_DESCRIPTION = "Build a run's report from its files, at any moment; or compare several runs."
