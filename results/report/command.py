"""The command `decrop report`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn


class _CommandLine(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message} (see --help)\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the report's path and return 0; if there can be none, say why in a line and return 2.

    What cannot be read of a run is left out of its report, which names it; so does standard error.
    """
    # Not at the top: `results.report` names this function.
    from results.report import build_report

    line = _CommandLine("decrop report", description=_DESCRIPTION)
    line.add_argument("run", type=Path, help="run folder, for example runs/digits")
    given = line.parse_args(arguments)
    try:
        path, problems = build_report(given.run)
    except (ValueError, OSError) as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    for problem in problems:
        print("warning: left out of the report:", problem, file=sys.stderr)
    print(path)
    return 0


_DESCRIPTION = "Build a run's report from its files, at any moment."
