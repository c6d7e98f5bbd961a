"""The command line of a run, made from its configuration, and the README's table of its flags.

`python -m tuning.flags README.md` regenerates the table.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field

from trainables.command import CommandLine, Flag, default, flag, flags_of, metavar
from tuning import __version__
from tuning.config import GROUPS

BEGIN, END = "<!-- made by: python -m tuning.flags README.md -->\n\n", "\n<!-- end of flags -->\n"


class JobFlags(BaseModel):
    """Whether to wait for a run that is a job on a cluster."""

    detach: bool = Field(False, description="submit the job, print its id, and return")
    attach: Annotated[str | None, Flag("ID")] = Field(
        None, description="follow a job that was submitted before"
    )


class StartFlags(BaseModel):
    """How to start, and what to print."""

    resume: bool = Field(
        False,
        description="continue the run --name, or the latest one; with more --trials, extend it",
    )
    config: Annotated[Path | None, Flag("FILE.yaml")] = Field(
        None, description="any of these flags; those on the command line win"
    )
    dry_run: bool = Field(
        False, description="show what would run, and at what cost; start and write nothing"
    )
    quiet: bool = Field(
        False, description="print only warnings and the result, not what is going on"
    )
    as_json: bool = Field(
        False, alias="json", description="end with the summary as one line of JSON"
    )


class LaunchFlags(JobFlags, StartFlags):
    """The flags that are not part of the configuration of a run."""


# The help groups to which they belong.
OWN: dict[str, type[BaseModel]] = {"cluster": JobFlags, "output": StartFlags}


def launch_line() -> CommandLine:
    """The command line of `decrop launch`."""
    line = CommandLine(
        "decrop launch",
        "Search for a denoiser that makes a frozen classifier certifiably robust, and certify it.",
        __version__,
    )
    for title, model in GROUPS.items():
        line.add_fields(title, model)
        if title in OWN:
            line.add_fields(title, OWN[title])
    return line


def readme_table() -> str:
    """All flags of `decrop launch` with their meaning and default, in Markdown."""
    rows = ["| flag | meaning | default |", "|---|---|---|"]
    for title, model in GROUPS.items():
        rows.append(f"| **{title}** | | |")
        rows += _rows(model)
        rows += _rows(OWN[title]) if title in OWN else []
    return "".join(f"{row}\n" for row in rows)


def with_table(readme: str) -> str:
    """`readme` with its table regenerated from the fields."""
    begin, end = readme.index(BEGIN) + len(BEGIN), readme.index(END)
    return readme[:begin] + readme_table() + readme[end:]


def _rows(model: type[BaseModel]) -> Iterator[str]:
    for name, field in flags_of(model):
        shown = f"{flag(name)} {metavar(field)}".strip()
        cells = (f"`{shown}`", field.description or "", default(field))
        yield "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(with_table(path.read_text()))
