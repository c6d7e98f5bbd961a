"""Denoisers trained from scratch to the end, as Ray tasks, for confirmation and certification.

Each is in a file named by a hash of everything it depends on, so a resumed run trains none twice.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import ray
from torch import Tensor

from results.store import write_bytes
from trainables.decrop.config import DecropConfig
from trainables.errors import NonFiniteLoss
from trainables.models.denoisers import Denoiser
from trainables.task import TrialTask
from trainables.weights.checkpoint import weights_hash
from trainables.weights.denoiser_file import denoiser_bytes, load_denoiser
from trainables.worker import free_gpu_memory, prepare_worker
from tuning.cluster.hosts import in_flight
from tuning.cluster.resources import Resources

# How often Ray restarts a training whose worker died.
RETRIES = 3


@dataclass(frozen=True)
class Training:
    """A denoiser to train on `images` [n, C, H, W] with `labels` [n]."""

    hyperparameters: DecropConfig
    images: Tensor
    labels: Tensor
    seed: int

    def key(self, source: str) -> str:
        """A hash of everything the denoiser depends on; `source` identifies the shared inputs."""
        config = self.hyperparameters.model_dump_json()
        digest = hashlib.sha256(json.dumps([source, config, self.seed]).encode())
        for tensor in (self.images, self.labels):
            digest.update(tensor.numpy().tobytes())
        return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Trainer:
    """Trains denoisers of one setting; files go to `folder`."""

    setting: str
    task: TrialTask
    folder: Path
    resources: Resources

    def train(
        self, trainings: Sequence[Training], advance: Callable[[int], None] = lambda done: None
    ) -> list[Denoiser | None]:
        """The denoisers, in order; None for one whose training diverged.

        `advance` is called with 1 for each finished denoiser.
        """
        keys = [training.key(self._source) for training in trainings]
        missing = {k: t for k, t in zip(keys, trainings, strict=True) if not self._path(k).exists()}
        for key in keys:
            if key not in missing:
                advance(1)
        self.folder.mkdir(parents=True, exist_ok=True)
        remote = _train.options(name=f"train: {self.setting}", **self.resources.of_task)
        shared, waiting = ray.put(self.task), deque(missing.items())
        pending: dict[ray.ObjectRef[bytes], str] = {}
        while waiting or pending:
            while waiting and len(pending) < in_flight(self.resources):
                key, training = waiting.popleft()
                pending[remote.remote(shared, training)] = key
            (ready,), _ = ray.wait(list(pending), num_returns=1)
            key = pending.pop(ready)
            write_bytes(self._path(key), ray.get(ready))
            advance(keys.count(key))
        return [self._read(key) for key in keys]

    @property
    def _source(self) -> str:
        initial = hashlib.sha256(self.task.initial or b"").hexdigest()
        shared = f"{self.task.shared_seed} {self.task.precision}"
        return f"{weights_hash(self.task.classifier)} {initial} {shared}"

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.safetensors"

    def _read(self, key: str) -> Denoiser | None:
        content = self._path(key).read_bytes()
        return load_denoiser(content) if content else None


@ray.remote(max_retries=RETRIES)
def _train(task: TrialTask, training: Training) -> bytes:
    """The weights; empty if the training diverged."""
    prepare_worker(task.device, task.threads, task.gpu_share)
    config = training.hyperparameters
    decrop = task.training(config, training.images, training.labels, training.seed)
    try:
        while decrop.epoch < config.epochs:
            decrop.train_epoch()
        return denoiser_bytes(decrop.denoiser, config.sigma)
    except NonFiniteLoss:
        return b""
    finally:
        # Ray keeps the process for later tasks, and other processes need the GPU meanwhile.
        del decrop
        free_gpu_memory()
