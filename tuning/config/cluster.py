"""Where a run computes."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, field_validator

from trainables.command import Flag
from tuning.config.durations import Duration
from tuning.errors import ConfigError


class ClusterConfig(BaseModel, frozen=True, extra="forbid"):
    """Ray and its resources."""

    cluster: Annotated[
        str | None,
        Flag("ADDRESS", default="a local Ray; RAY_ADDRESS without an address", alone="auto"),
    ] = Field(
        None,
        description="a Ray cluster: HOST:PORT of one that this host belongs to, or "
        "http://HOST:8265 to submit the run as a job",
    )
    cpus_per_trial: int = Field(1, ge=1, description="cores of one worker")
    gpus_per_trial: Annotated[float | None, Flag(default="1 where there are any")] = Field(
        None, ge=0, allow_inf_nan=False, description="GPUs of one worker"
    )
    concurrency: Annotated[int | None, Flag(default="as many as there are cores or GPUs for")] = (
        Field(None, ge=1, description="workers at once")
    )
    autoscaling: bool = Field(
        False,
        description="on a cluster that adds hosts: ask it for all --concurrency workers, even "
        "if none fits yet",
    )
    grace: Annotated[Duration, Flag("DURATION", default="25s")] = Field(
        25.0,
        ge=0,
        description="after SIGTERM or SIGHUP: how long workers may take to save what they do",
    )
    storage: Annotated[str | None, Flag("DIR|s3://BUCKET/DIR", default="the run folder")] = Field(
        None,
        description="a place that all hosts reach, for checkpoints and for a copy of the run from "
        "which any host can resume",
    )

    @field_validator("storage")
    @classmethod
    def _known_place(cls, value: str | None) -> str | None:
        if value is not None:
            parts = urlsplit(value)
            if parts.scheme not in ("", "s3", "gs"):
                raise ValueError(f"{value} is neither a folder nor s3://BUCKET/FOLDER")
            if "@" in parts.netloc or "secret" in parts.query:
                raise ValueError(
                    "credentials in it are visible to everyone; leave them out, and set "
                    "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY on every host"
                )
            if ".." in value.split("/"):
                raise ValueError(f"{value} must not contain .., which leads out of its folder")
            if not parts.scheme and not value.startswith("/"):
                raise ValueError(f"{value} must be an absolute path: other hosts use it as well")
        return value


def check_cluster(config: ClusterConfig) -> None:
    """Refuse flags that contradict each other.

    Raises:
        ConfigError: naming one of them.
    """
    if config.autoscaling and (config.cluster is None or config.concurrency is None):
        raise ConfigError(
            "--autoscaling: is for a cluster that adds hosts; pass its address as --cluster, and "
            "the number of workers to ask it for as --concurrency"
        )
