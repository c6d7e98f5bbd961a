"""Where a run is written, and its seed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, field_validator

from trainables.command import Flag


class OutputConfig(BaseModel, frozen=True, extra="forbid"):
    """The run folder."""

    out: Annotated[Path, Flag("DIR")] = Field(Path("runs"), description="where run folders are")
    name: Annotated[str, Flag("NAME", default="the date")] = Field(
        description="name of the run folder"
    )
    seed: int = Field(0, ge=0, lt=2**63, description="everything random comes from it")

    @field_validator("name")
    @classmethod
    def _plain_name(cls, value: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", value):
            raise ValueError(f"{value!r} may contain only letters, digits and . _ -")
        return value

    @property
    def run_folder(self) -> Path:
        """The folder of the run."""
        return self.out / self.name
