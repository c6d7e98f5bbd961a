"""Denoisers trained from scratch to the end, as Ray tasks, for confirmation and certification.

Each is in a file named by a hash of everything it depends on, so a resumed run trains none twice.
A training that paused, because the run ended or its host left, is in a file beside it.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import ray
import torch
from torch import Tensor

from results.store import write_bytes
from trainables.decrop.config import DecropConfig
from trainables.errors import NonFiniteLoss
from trainables.models.denoisers import Denoiser
from trainables.task import TrialTask
from trainables.weights.checkpoint import weights_hash
from trainables.weights.denoiser_file import denoiser_bytes, load_denoiser
from trainables.worker import free_gpu_memory, prepare_worker
from tuning.cluster.pool import TaskPool, Urgency

# How often Ray restarts a training whose worker died.
RETRIES = 3


@dataclass(frozen=True)
class Training:
    """A denoiser to train on `images` [n, C, H, W] with `labels` [n].

    `label` says on the dashboard what it is for.
    """

    hyperparameters: DecropConfig
    images: Tensor
    labels: Tensor
    seed: int
    label: str

    def key(self, source: str) -> str:
        """A hash of everything the denoiser depends on; `source` identifies the shared inputs."""
        config = self.hyperparameters.model_dump_json()
        digest = hashlib.sha256(json.dumps([source, config, self.seed]).encode())
        for tensor in (self.images, self.labels):
            digest.update(tensor.numpy().tobytes())
        return digest.hexdigest()[:16]


class _Outcome(NamedTuple):
    """What a task returns: the weights, empty if the training diverged; or its state if it paused.

    A training that paused before it began has an empty state.
    """

    weights: bytes
    state: bytes = b""
    paused: bool = False


class Trainer:
    """Trains denoisers of one `setting` on the workers of a pool; files go to `folder`."""

    def __init__(self, setting: str, task: TrialTask, folder: Path, pool: TaskPool) -> None:
        self._setting, self._task, self._folder, self._pool = setting, task, folder, pool
        self._begun: dict[str, asyncio.Task[None]] = {}

    async def train(self, training: Training, urgency: Urgency) -> Denoiser | None:
        """The denoiser; None if its training diverged.

        A training that is asked for again is not repeated. If the run is to end, what has begun is
        saved, if there is time.
        """
        key = training.key(self._source)
        if key not in self._begun:
            self._begun[key] = asyncio.create_task(self._train(key, training, urgency))
        await self._begun[key]
        content = self._path(key).read_bytes()
        return load_denoiser(content) if content else None

    async def _train(self, key: str, training: Training, urgency: Urgency) -> None:
        """Train, and write the denoiser, unless it is there."""
        if self._path(key).exists():
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        name = f"train: {self._setting}: {training.label}"
        remote = _train.options(name=name, **self._pool.resources.of_task)

        def submit() -> ray.ObjectRef[_Outcome]:
            return remote.remote(self._shared, training, self._state(key))

        outcome = _Outcome(b"", paused=True)
        while outcome.paused:
            outcome = await self._pool.result(submit, urgency)
            if outcome.state:
                write_bytes(self._unfinished(key), outcome.state)
        write_bytes(self._path(key), outcome.weights)
        self._unfinished(key).unlink(missing_ok=True)

    @cached_property
    def _shared(self) -> ray.ObjectRef[TrialTask]:
        return ray.put(self._task)

    @cached_property
    def _source(self) -> str:
        initial = hashlib.sha256(self._task.initial or b"").hexdigest()
        shared = f"{self._task.shared_seed} {self._task.precision}"
        return f"{weights_hash(self._task.classifier)} {initial} {shared}"

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.safetensors"

    def _unfinished(self, key: str) -> Path:
        return self._folder / f"{key}.training.pt"

    def _state(self, key: str) -> bytes:
        """Where the training paused; empty if it begins."""
        path = self._unfinished(key)
        return path.read_bytes() if path.exists() else b""


@ray.remote(max_retries=RETRIES)
def _train(task: TrialTask, training: Training, state: bytes) -> _Outcome:
    if task.asked_to_pause():
        return _Outcome(b"", state, paused=True)
    prepare_worker(task.device, task.threads, task.gpu_share)
    config = training.hyperparameters
    decrop = task.training(config, training.images, training.labels, training.seed)
    if state:
        decrop.load_state_dict(torch.load(io.BytesIO(state), weights_only=True))
    try:
        while decrop.epoch < config.epochs:
            if task.asked_to_pause():
                return _Outcome(b"", _packed(decrop.state_dict()), paused=True)
            decrop.train_epoch()
        return _Outcome(denoiser_bytes(decrop.denoiser, config.sigma))
    except NonFiniteLoss:
        return _Outcome(b"")
    finally:
        # Ray keeps the process for later tasks, and other processes need the GPU meanwhile.
        del decrop
        free_gpu_memory()


def _packed(state: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()
