"""The validated configuration of a run: flags and YAML become this, once."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import yaml
from pydantic import BaseModel, Field, ValidationError, field_validator

from search_spaces.space import Value
from trainables.data.datasets import DATASETS
from trainables.errors import InputError, nearest
from trainables.smoothing.objective import PARETO, Objective
from trainables.smoothing.procedures import Procedure, ProcedureName, make_procedure
from trainables.smoothing.quantised import NoiseName
from tuning.errors import ConfigError
from tuning.study.pruning import SchedulerName
from tuning.study.samplers import SamplerName

DURATION_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
# One in so many trials of a search is confirmed, unless the user says.
TRIALS_PER_CANDIDATE = 8
# What a resumed run may change: how long and where it runs, never what it computes. (Another
# number of cores a trial adds numbers up in another order.)
RESUMABLE = {
    *("trials", "budget", "device_hours", "trial_timeout"),
    *("cluster", "concurrency", "autoscaling", "storage", "out", "download"),
    # Picks from what was confirmed.
    "min_accuracy",
}


class RunConfig(BaseModel, frozen=True, extra="forbid"):
    """Everything a run depends on. Field names are those of the flags."""

    dataset: tuple[str, ...] = Field(("digits",), min_length=1)
    data_dir: Path | None = None
    download: bool = False
    shots: tuple[str, ...] = Field(("10",), min_length=1)
    classifier: str | None = None
    weights: Path | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    feature_layer: str | None = None
    access: Literal["white-box", "black-box"] = "white-box"
    query_budget: int = Field(20_000, ge=1, le=1_000_000_000)
    init_denoiser: Path | None = None
    space: str | None = None
    set: dict[str, Value] = {}
    objective: str = "acr"
    min_accuracy: float | None = Field(None, ge=0, le=1)
    trials: int = Field(16, ge=1, le=1_000_000)
    budget: float | None = Field(None, gt=0, description="seconds")
    device_hours: float | None = Field(None, gt=0, allow_inf_nan=False)
    trial_timeout: float = Field(6 * 3600, gt=0, description="seconds from one rung to the next")
    sampler: SamplerName = "tpe"
    # Successive halving compares one score.
    scheduler: SchedulerName = Field(
        default_factory=lambda given: "none" if given.get("objective") == PARETO else "asha"
    )
    transfer: int = Field(3, ge=0, le=100)
    ledger: str | None = None
    cohort: int | None = Field(None, ge=1, le=10_000)
    tuning_votes: int = Field(400, ge=50, le=1_000_000)
    confirm_votes: int = Field(2000, ge=50, le=1_000_000)
    confirm_top: int | None = Field(None, ge=1, le=1000)
    confirm_folds: int = Field(3, ge=2, le=100)
    certify_images: int = Field(200, ge=1)
    n: int = Field(10_000, ge=1, le=100_000_000)
    n0: int = Field(100, ge=1, le=1_000_000)
    alpha: float = Field(0.001, gt=0, lt=1)
    radii: tuple[float, ...] = ()
    procedure: ProcedureName = Field(
        default_factory=lambda given: "adaptive" if given.get("radii") else "tolerance"
    )
    tolerance: float = Field(0.02, gt=0, allow_inf_nan=False)
    noise: NoiseName = "gaussian"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    cluster: str | None = None
    cpus_per_trial: int = Field(1, ge=1)
    gpus_per_trial: float | None = Field(None, ge=0, allow_inf_nan=False)
    concurrency: int | None = Field(None, ge=1)
    autoscaling: bool = False
    storage: str | None = None
    out: Path = Path("runs")
    name: str
    seed: int = Field(0, ge=0, lt=2**63)

    @field_validator("dataset", "shots", mode="before")
    @classmethod
    def _split_list(cls, value: object) -> object:
        if isinstance(value, str | int):
            return tuple(part.strip() for part in str(value).split(","))
        return tuple(str(part) for part in value) if isinstance(value, list) else value

    @field_validator("mean", "std", "radii", mode="before")
    @classmethod
    def _split_numbers(cls, value: object) -> object:
        return tuple(value.split(",")) if isinstance(value, str) else value

    @field_validator("dataset")
    @classmethod
    def _known_dataset(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if name not in DATASETS:
                raise ValueError(f"{name!r} is unknown; choose from {', '.join(DATASETS)}")
        return value

    @field_validator("shots")
    @classmethod
    def _valid_shots(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for shots in value:
            if not re.fullmatch(r"[1-9]\d{0,8}|(?:100|\d{1,2}(?:\.\d+)?)%", shots):
                raise ValueError(f"{shots!r} is neither a number above 0 nor a percentage as in 5%")
        return value

    @field_validator("set", mode="before")
    @classmethod
    def _parse_assignments(cls, value: object) -> object:
        if not isinstance(value, list | tuple):
            return value
        assignments = {}
        for text in value:
            name, equals, literal = str(text).partition("=")
            if not equals:
                raise ValueError(f"{text!r} is no NAME=VALUE")
            assignments[name.strip()] = yaml.safe_load(literal)
        return assignments

    @field_validator("budget", "trial_timeout", mode="before")
    @classmethod
    def _parse_duration(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd]?)", value)
        if match is None:
            raise ValueError(f"{value!r} is no duration; write for example 90s, 30m or 2h")
        return float(match.group(1)) * DURATION_UNITS[match.group(2) or "s"]

    @field_validator("objective")
    @classmethod
    def _known_objective(cls, value: str) -> str:
        try:
            Objective.parse(value)
        except InputError as error:
            raise ValueError(str(error).removeprefix("--objective: ")) from error
        return value

    @field_validator("ledger")
    @classmethod
    def _no_password(cls, value: str | None) -> str | None:
        if value is not None:
            parts = urlsplit(value)
            if not parts.scheme.startswith("postgresql"):
                raise ValueError(f"{parts.scheme!r} is no PostgreSQL; write postgresql://HOST/NAME")
            if parts.password or "password" in parts.query:
                raise ValueError(
                    "a password there is seen by everybody on this machine; leave it out, and set "
                    "PGPASSWORD or write it to ~/.pgpass"
                )
        return value

    @field_validator("storage")
    @classmethod
    def _known_place(cls, value: str | None) -> str | None:
        if value is not None:
            parts = urlsplit(value)
            if parts.scheme not in ("", "s3", "gs"):
                raise ValueError(f"{value} is neither a folder nor s3://BUCKET/FOLDER")
            if "@" in parts.netloc or "secret" in parts.query:
                raise ValueError(
                    "credentials there are seen by everybody; leave them out, and set "
                    "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY on every host"
                )
            if ".." in value.split("/"):
                raise ValueError(f"{value} must not hold .., which leads out of its folder")
            if not parts.scheme and not value.startswith("/"):
                raise ValueError(f"{value} must be an absolute path: other hosts read it as well")
        return value

    @field_validator("radii")
    @classmethod
    def _ascending(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if list(value) != sorted(set(value)) or not all(0 <= r < math.inf for r in value):
            raise ValueError(f"{value} must ascend, from 0 or above")
        return value

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

    @property
    def certificates(self) -> Procedure:
        """How certificates are made."""
        numbers = (self.n0, self.n, self.alpha)
        return make_procedure(self.procedure, *numbers, tolerance=self.tolerance, radii=self.radii)

    @property
    def pareto(self) -> bool:
        """Whether the search is for the trade-off of clean accuracy and ACR."""
        return self.objective == PARETO

    @property
    def candidates(self) -> int:
        """How many trials of a search are confirmed."""
        if self.confirm_top is not None:
            return self.confirm_top
        return min(8, max(2, round(self.trials / TRIALS_PER_CANDIDATE)))


def make_config(values: Mapping[str, Any]) -> RunConfig:
    """Validate `values`, by field name.

    Raises:
        ConfigError: naming the first field that is wrong, and what it should be.
    """
    for name in values:
        if name not in RunConfig.model_fields:
            raise ConfigError(f"{flag(name)}: unknown{nearest(name, RunConfig.model_fields)}")
    try:
        config = RunConfig.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        message = first["msg"].removeprefix("Value error, ")
        got = "" if first["type"] == "value_error" else f"; got {first['input']!r}"
        raise ConfigError(f"{flag(str(first['loc'][0]))}: {message}{got}") from error
    if config.classifier is None:
        for name in ("weights", "mean", "std", "feature_layer"):
            if getattr(config, name) is not None:
                raise ConfigError(f"{flag(name)}: describes a --classifier; pass that too")
    elif is_endpoint(config.classifier) and config.access == "white-box":
        raise ConfigError(
            f"--access: {config.classifier} answers queries only; pass --access black-box"
        )
    if config.pareto and config.scheduler != "none":
        raise ConfigError(
            f"--scheduler: {config.scheduler} compares one score, and --objective pareto has two; "
            "pass none"
        )
    if config.min_accuracy is not None and not config.pareto:
        raise ConfigError(
            "--min-accuracy: picks from the front of --objective pareto; pass that too"
        )
    if (config.procedure == "adaptive") != bool(config.radii):
        raise ConfigError(
            f"--procedure: {config.procedure} {'takes no' if config.radii else 'needs'} --radii; "
            "adaptive decides radii, for example --radii 0.25,0.5,0.75"
        )
    if config.autoscaling and (config.cluster is None or config.concurrency is None):
        raise ConfigError(
            "--autoscaling: for a --cluster that adds hosts; pass that, and with --concurrency how "
            "many workers to ask it for"
        )
    if config.n < config.n0:
        raise ConfigError(f"--n: must be at least --n0, {config.n0}; got {config.n}")
    return config


def is_endpoint(classifier: str) -> bool:
    """Whether --classifier names an HTTP endpoint."""
    return classifier.startswith(("http://", "https://"))


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a configuration file, with field names as keys.

    Raises:
        ConfigError: when the file is missing or holds no mapping.
    """
    try:
        values = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ConfigError(f"--config: {path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        message = " ".join(str(error).split())
        raise ConfigError(f"--config: {path} is no valid YAML: {message}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"--config: {path} holds no mapping of flags to values")
    return {str(key).removeprefix("--").replace("-", "_"): v for key, v in values.items()}


def to_yaml(config: RunConfig) -> str:
    """The configuration as YAML that `read_yaml` and `make_config` read back."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def config_hash(config: RunConfig) -> str:
    """SHA-256 of the resolved configuration."""
    return hashlib.sha256(to_yaml(config).encode()).hexdigest()


def setting_name(dataset: str, shots: str) -> str:
    """For example `digits-10shot`, or `digits-5pct`."""
    return f"{dataset}-{shots.removesuffix('%')}{'pct' if shots.endswith('%') else 'shot'}"


def flag(field: str) -> str:
    """The command-line flag of a field."""
    return "--" + field.replace("_", "-")
