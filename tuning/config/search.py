"""What a run tries, for how long, and how trials are compared and confirmed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import yaml
from pydantic import BaseModel, BeforeValidator, Field, field_validator

from search_spaces.yaml_values import load_yaml
from trainables.choices import CERTIFIED_ACCURACY, PARETO, objective_radii
from trainables.command import Flag
from tuning.config.durations import Duration
from tuning.errors import ConfigError
from tuning.study.choices import SamplerName, SchedulerName

# One in this many trials of a search is confirmed, unless the user decides otherwise.
TRIALS_PER_CANDIDATE = 8


def _shortened(text: str) -> str:
    return repr(text) if len(text) <= 60 else f"{text[:60]!r}..."


def _assignments(value: object) -> object:
    if not isinstance(value, list | tuple):
        return value
    assignments = {}
    for text in value:
        name, equals, literal = str(text).partition("=")
        if not equals:
            raise ValueError(f"{text!r} is not NAME=VALUE")
        try:
            assignments[name.strip()] = load_yaml(literal)
        except yaml.YAMLError:
            raise ValueError(
                f"{_shortened(literal)} in {_shortened(text)} is not a value"
            ) from None
    return assignments


Assignments = Annotated[dict[str, bool | int | float | str], BeforeValidator(_assignments)]


class SearchConfig(BaseModel, frozen=True, extra="forbid"):
    """Search and confirmation. Durations are in seconds."""

    init_denoiser: Path | None = Field(
        None,
        description="start every trial from this denoiser, a file or an exported "
        "smoothed_classifier; its architecture is then fixed",
    )
    space: Annotated[
        str | None, Flag("NAME|FILE.yaml", default="by data set and share of shots")
    ] = Field(None, description="search space: a shipped one, or your own")
    set: Annotated[Assignments, Flag("NAME=VALUE")] = Field(
        {}, description="hold a hyperparameter at a value; repeatable"
    )
    objective: Annotated[str, Flag("NAME")] = Field(
        CERTIFIED_ACCURACY,
        description="what is maximised: certified-accuracy, the mean over --radii, with wrong "
        "certificates counted against it; the same @R[,R]; pareto: it and the clean accuracy; or "
        "acr, the average certified radius",
    )
    min_accuracy: float | None = Field(
        None,
        ge=0,
        le=1,
        description="pareto: the clean accuracy, in [0, 1], that `best` must have; can be changed "
        "with --resume",
    )
    trials: int = Field(16, ge=1, le=1_000_000, description="points that the search evaluates")
    budget: Annotated[Duration | None, Flag("DURATION")] = Field(
        None,
        gt=0,
        description="time for search and confirmation, as 30m or 2h; only the search is cut short",
    )
    device_hours: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="like --budget, in hours of GPUs, or of cores if there are no GPUs",
    )
    trial_timeout: Annotated[Duration, Flag("DURATION", default="6h")] = Field(
        6 * 3600, gt=0, description="end a worker that reports nothing for this long"
    )
    sampler: SamplerName = Field("tpe", description="what proposes trials")
    # Successive halving compares a single score, and pareto has two.
    scheduler: Annotated[SchedulerName, Flag(default="asha; none for pareto")] = Field(
        default_factory=lambda given: "none" if given.get("objective") == PARETO else "asha",
        description="what ends bad trials early",
    )
    transfer: int = Field(
        3,
        ge=0,
        le=100,
        description="how many of its best points a setting hands to the next one with the same "
        "data set",
    )
    ledger: Annotated[str | None, Flag("URL", default="study.db in the run folder")] = Field(
        None,
        description="a PostgreSQL database for the study; the password goes in PGPASSWORD",
    )
    virtual_workers: Annotated[
        int | None, Flag(default="4, or twice the number of workers if that is more")
    ] = Field(
        None,
        ge=1,
        le=10_000,
        description="trials under way in the study's own time; with the seed it determines every "
        "proposal, and a study keeps it",
    )
    tuning_votes: int = Field(
        400, ge=50, le=1_000_000, description="votes per tuning image in a trial"
    )
    confirm_votes: Annotated[int, Flag(default="400, or --n if that is less")] = Field(
        400, ge=50, le=1_000_000, description="votes per tuning image in confirmation"
    )
    confirm_top: Annotated[int | None, Flag(default="one in eight, 2 to 8")] = Field(
        None, ge=1, le=1000, description="trials that are confirmed"
    )
    confirm_folds: int = Field(
        3, ge=2, le=100, description="fresh splits on which each of them is trained again"
    )

    @field_validator("objective")
    @classmethod
    def _known_objective(cls, value: str) -> str:
        objective_radii(value)
        return value

    @field_validator("ledger")
    @classmethod
    def _no_password(cls, value: str | None) -> str | None:
        if value is not None:
            parts = urlsplit(value)
            if not parts.scheme.startswith("postgresql"):
                raise ValueError(
                    f"{parts.scheme!r} is not PostgreSQL; write postgresql://HOST/NAME"
                )
            if parts.password or "password" in parts.query:
                raise ValueError(
                    "a password in it is visible to everyone on this machine; leave it out, and "
                    "set PGPASSWORD or write it to ~/.pgpass"
                )
        return value

    @property
    def pareto(self) -> bool:
        """Whether the search explores the trade-off with the clean accuracy."""
        return self.objective == PARETO

    @property
    def candidates(self) -> int:
        """How many trials of a search are confirmed."""
        if self.confirm_top is not None:
            return self.confirm_top
        return min(8, max(2, round(self.trials / TRIALS_PER_CANDIDATE)))


def check_search(config: SearchConfig) -> None:
    """Refuse flags that contradict each other.

    Raises:
        ConfigError: naming one of them.
    """
    if config.pareto and config.scheduler != "none":
        raise ConfigError(
            f"--scheduler: {config.scheduler} compares a single score, but --objective pareto has "
            "two; pass none"
        )
    if config.min_accuracy is not None and not config.pareto:
        raise ConfigError("--min-accuracy: picks from a Pareto front; pass --objective pareto too")
