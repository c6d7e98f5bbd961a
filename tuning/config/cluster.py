"""Where a run computes."""

from __future__ import annotations

import re
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
    gpus_per_trial: Annotated[float | None, Flag("X|auto", default="auto")] = Field(
        None,
        ge=0,
        allow_inf_nan=False,
        description="GPUs of one worker; auto: 1 where there are any, but 2 to 4 workers a GPU "
        "on a machine where CUDA MPS runs and memory is enough",
    )
    gpu_type: Annotated[str | None, Flag("NAME")] = Field(
        None,
        description="on a cluster with GPUs of several kinds: compute on this one only, named as "
        "Ray names it (A10G, H100, ...)",
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

    @field_validator("gpus_per_trial", mode="before")
    @classmethod
    def _automatic(cls, value: object) -> object:
        return None if value == "auto" else value

    @field_validator("gpu_type")
    @classmethod
    def _kind_of_gpu(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"\w(?:[\w.-]{0,61}\w)?", value, re.ASCII):
            raise ValueError(f"{value!r} is not the name of a GPU; write for example A10G or H100")
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
    if config.gpu_type is not None and config.cluster is None:
        raise ConfigError(
            "--gpu-type: is for a cluster with GPUs of several kinds; pass its address as "
            "--cluster, or leave the flag out"
        )
    if config.gpu_type is not None and config.gpus_per_trial == 0:
        raise ConfigError("--gpu-type: asks for GPUs, but --gpus-per-trial 0 uses none; drop one")
    if config.autoscaling and (config.cluster is None or config.concurrency is None):
        raise ConfigError(
            "--autoscaling: is for a cluster that adds hosts; pass its address as --cluster, and "
            "the number of workers to ask it for as --concurrency"
        )
