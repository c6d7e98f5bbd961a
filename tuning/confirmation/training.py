"""Denoisers trained from scratch to the end, as Ray tasks, for confirmation and certification.

Each is in a file named by a hash of everything it depends on, so a resumed run trains none twice.
A training that paused, because the run ended or its host left, is in a file beside it.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
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
from tuning.cluster.ending import ENDING
from tuning.cluster.hosts import in_flight
from tuning.cluster.pausing import first_ready, pause_workers
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


class _Outcome(NamedTuple):
    """What a task returns: the weights, empty if the training diverged; or its state if it paused.

    A training that paused before it began has an empty state.
    """

    weights: bytes
    state: bytes = b""
    paused: bool = False


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
        with ENDING.graceful():
            for key in self._trained(missing):
                advance(keys.count(key))
        return [self._read(key) for key in keys]

    def _trained(self, trainings: Mapping[str, Training]) -> Iterator[str]:
        """Train, and write each denoiser; its key when it is there.

        Ends early if the run is to end: what has begun is saved, if there is time.
        """
        remote = _train.options(name=f"train: {self.setting}", **self.resources.of_task)
        shared, waiting = ray.put(self.task), deque(trainings)
        pending: dict[ray.ObjectRef[_Outcome], str] = {}
        while not ENDING.overdue and (pending or (waiting and not ENDING.asked)):
            while waiting and not ENDING.asked and len(pending) < in_flight(self.resources):
                key = waiting.popleft()
                pending[remote.remote(shared, trainings[key], self._state(key))] = key
            if ENDING.asked:
                pause_workers()
            ready = first_ready(list(pending))
            if ready is None:
                continue
            key, outcome = pending.pop(ready), ray.get(ready)
            if outcome.paused:
                if outcome.state:
                    write_bytes(self._unfinished(key), outcome.state)
                waiting.append(key)
            else:
                write_bytes(self._path(key), outcome.weights)
                self._unfinished(key).unlink(missing_ok=True)
                yield key

    @property
    def _source(self) -> str:
        initial = hashlib.sha256(self.task.initial or b"").hexdigest()
        shared = f"{self.task.shared_seed} {self.task.precision}"
        return f"{weights_hash(self.task.classifier)} {initial} {shared}"

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.safetensors"

    def _unfinished(self, key: str) -> Path:
        return self.folder / f"{key}.training.pt"

    def _state(self, key: str) -> bytes:
        """Where the training paused; empty if it begins."""
        path = self._unfinished(key)
        return path.read_bytes() if path.exists() else b""

    def _read(self, key: str) -> Denoiser | None:
        content = self._path(key).read_bytes()
        return load_denoiser(content) if content else None


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
