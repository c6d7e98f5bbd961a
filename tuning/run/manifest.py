"""The manifest of a run: versions, hardware, seeds and hashes, needed to reproduce it."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from results.digests import FILES, file_digests
from results.store import write_json
from trainables.acceleration.voting import Precision
from trainables.data.datasets import Dataset
from trainables.data.splits import HeldOutImages
from trainables.weights.checkpoint import weights_hash
from tuning import __version__
from tuning.certification.subjects import Subject
from tuning.cluster.connection import Cluster
from tuning.config import RunConfig, config_hash
from tuning.errors import ConfigError
from tuning.setting.setting import Setting

# What a resumed run must find unchanged, and the flag for it. (The ledger checks the search space.)
UNCHANGED = {
    "images_hash": "--data-dir: the images",
    "classifier_hash": "--classifier: the weights",
}
# Measured only once: in a different precision trials and certificates would differ.
PRECISIONS = ("training_precision", "precision")
LIBRARIES = ("ray", "torch", "torchvision", "optuna", "pyarrow", "numpy", "scipy")


class Manifest:
    """manifest.json of a run that has started; every change is written at once.

    `previous` is the manifest of the run that is resumed, or empty.
    """

    def __init__(
        self, path: Path, config: RunConfig, cluster: Cluster, previous: Mapping[str, Any]
    ) -> None:
        self._path, self._previous = path, previous
        self._content = run_manifest(config, cluster, previous)

    @property
    def run_id(self) -> str:
        """Distinguishes the run from others of the same name in the same database."""
        found: str = self._content["run_id"]
        return found

    def add_setting(self, setting: Setting, classifier: nn.Module) -> None:
        """Record the images, the classifier and the search space of a setting.

        Raises:
            ConfigError: when images or classifier have changed since the run started.
        """
        entry = setting_manifest(setting, classifier, self._previous)
        self._content["settings"][setting.name] = entry
        self._write()

    def add_subject(self, subject: Subject, classifier: nn.Module) -> None:
        """Record what is certified without a search: models, their sigmas, classifier and images.

        Raises:
            ConfigError: when the folder holds certificates of something else.
        """
        models = {variant: model.identity for variant, model in subject.models.items()}
        found = {"models": models, "classifier_hash": weights_hash(classifier)}
        entry = self._entry(subject.name)
        for name, whose in (("models", "models"), ("classifier_hash", "classifiers")):
            if entry and entry.get(name) != found[name]:
                raise ConfigError(
                    f"--out: {self._path.parent} holds certificates of {whose} that differ from "
                    "these; pass a different folder"
                )
        facts = certified_facts(subject.dataset, subject.test, subject.radii)
        self.record(subject.name, **found, **facts)

    def precision(self, setting: str) -> Precision | None:
        """The precision in which an earlier start decided to count the votes of a setting."""
        found: Precision | None = self._entry(setting).get("precision")
        return found

    def training_precision(self, setting: str) -> Precision | None:
        """The precision in which an earlier start decided to train the denoisers of a setting."""
        found: Precision | None = self._entry(setting).get("training_precision")
        return found

    def record(self, setting: str, **found: Any) -> None:
        """Record facts about a setting, by name."""
        self._entry(setting).update(found)
        self._write()

    def add_seconds(self, setting: str, stage: str, more: float) -> None:
        """Add to what a stage has taken in a setting, over all starts of the run."""
        seconds = self._entry(setting).setdefault("seconds", {})
        seconds[stage] = round(seconds.get(stage, 0.0) + more, 2)
        self._write()

    @contextmanager
    def timed(self, setting: str, stage: str) -> Iterator[None]:
        """Add the seconds of the block to what the stage has taken."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.add_seconds(setting, stage, time.perf_counter() - started)

    def add_command(self, command: str) -> None:
        """Record the command that makes such a run."""
        self._content["command"] = command
        self._write()

    def add_lost_hosts(self, reasons: Iterable[str]) -> None:
        """Record the hosts that were lost while the run continued."""
        self._content["lost_hosts"] += reasons
        self._write()

    def seal(self, folder: Path) -> None:
        """Record digests of the run's files in `folder`, which has ended: nothing changes anymore.

        Raises:
            OSError: when a file cannot be read.
        """
        self._content[FILES] = file_digests(folder, self._content)
        self._write()

    def _entry(self, setting: str) -> dict[str, Any]:
        entry: dict[str, Any] = self._content["settings"].setdefault(setting, {})
        return entry

    def _write(self) -> None:
        write_json(self._path, self._content)


def images_hash(setting: Setting) -> str:
    """SHA-256 of the pixels and labels of training, tuning and test images, in that order."""
    shots, test = setting.shots, setting.test
    return _hash(
        *(shots.train_images, shots.train_labels),
        *(shots.tuning_images, shots.tuning_labels),
        *(test.images, test.labels),
    )


def _hash(*tensors: Tensor) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def run_manifest(
    config: RunConfig, cluster: Cluster, previous: Mapping[str, Any]
) -> dict[str, Any]:
    """What is known when a run starts; `previous` is as in `Manifest`."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {
        "schema_version": 1,
        "run_id": previous.get("run_id", uuid.uuid4().hex),
        "starts": [*previous.get("starts", []), now],
        "seed": config.seed,
        "config_hash": config_hash(config),
        "version": __version__,
        "commit": _commit(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in LIBRARIES},
        "hardware": {
            "platform": platform.platform(),
            "processor": _processor(),
            "cores": os.cpu_count(),
            "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        },
        "workers": cluster.resources.concurrency,
        "cpus_per_trial": cluster.resources.cpus_per_trial,
        "gpus_per_trial": cluster.resources.gpus_per_trial,
        # The hosts that were lost while the run continued.
        "lost_hosts": previous.get("lost_hosts", []),
        "settings": dict(previous.get("settings", {})),
    }


def setting_manifest(
    setting: Setting, classifier: nn.Module, previous: Mapping[str, Any]
) -> dict[str, Any]:
    """What is known of a setting before its search starts; `previous` is as in `Manifest`.

    Raises:
        ConfigError: when images or classifier have changed since the run started.
    """
    before = previous.get("settings", {}).get(setting.name, {})
    hashes = {
        "images_hash": images_hash(setting),
        "classifier_hash": weights_hash(classifier),
    }
    for name, found in hashes.items():
        if before.get(name, found) != found:
            raise ConfigError(
                f"{UNCHANGED[name]} of {setting.name} changed since the run started; restore "
                "them, or start a new run"
            )
    return {
        **hashes,
        "network": _network(classifier),
        **certified_facts(setting.dataset, setting.test, setting.radii),
        "space": setting.space.name,
        "space_fingerprint": setting.space.fingerprint(),
        "training_indices": setting.shots.train_indices,
        "tuning_indices": setting.shots.tuning_indices,
        "seconds": dict(before.get("seconds", {})),
        **{name: before[name] for name in PRECISIONS if name in before},
    }


def certified_facts(
    dataset: Dataset, test: HeldOutImages, radii: Sequence[float]
) -> dict[str, Any]:
    """What the manifest says about the images that are certified, and the radii that count."""
    return {
        "radii": list(radii),
        "classes": len(dataset.classes),
        "data_notes": list(dataset.notes),
        "class_names": list(dataset.classes),
        "image_shape": list(test.images.shape[1:]),
        "test_images_hash": _hash(test.images, test.labels),
        "test_indices": test.indices,
    }


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a run, empty if it has none.

    Raises:
        ConfigError: when it is damaged.
    """
    if not path.is_file():
        return {}
    try:
        manifest: dict[str, Any] = json.loads(path.read_text())
    except ValueError as error:
        raise ConfigError(f"--resume: {path} is damaged; delete it, or start a new run") from error
    return manifest


def _network(classifier: nn.Module) -> dict[str, Any]:
    """What the frozen classifier is, as far as it can be seen; an endpoint has no parameters."""
    network = classifier
    while isinstance(inner := getattr(network, "network", None), nn.Module):
        network = inner
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return {"name": type(network).__name__, "parameters": parameters}


def _commit() -> str | None:
    """The commit of the sources, if they are in their repository; with a mark if they differ."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            return next(
                line.split(":")[1].strip() for line in lines if line.startswith("model name")
            )
    except (OSError, StopIteration):
        return platform.processor()
