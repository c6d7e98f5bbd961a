"""Where a run goes, and the seed that makes it what it is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, field_validator

from trainables.command import Flag


class OutputConfig(BaseModel, frozen=True, extra="forbid"):
    """The run folder."""

    out: Annotated[Path, Flag("DIR")] = Field(Path("runs"), description="where run folders lie")
    name: Annotated[str, Flag("NAME", default="the date")] = Field(
        description="name of the run folder"
    )
    seed: int = Field(0, ge=0, lt=2**63, description="everything random comes from it")

    @field_validator("name")
    @classmethod
    def _plain_name(cls, value: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", value):
            raise ValueError(f"{value!r} may hold letters, digits and . _ - only")
        return value

    @property
    def run_folder(self) -> Path:
        """Where the run lives."""
        return self.out / self.name
