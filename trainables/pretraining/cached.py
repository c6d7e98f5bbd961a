"""The default classifier of a data set that has one: trained once, then cached."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F

from trainables.data.datasets import Dataset
from trainables.models.architectures import ARCHITECTURES
from trainables.models.classifiers import BaseClassifier
from trainables.torch_internals import Adam
from trainables.weights.checkpoint import load_classifier, save_classifier

EPOCHS = 40
BATCH = 64
# Part of the cached file's name: increase it when the recipe below changes.
RECIPE = 1


def cached_classifier(
    dataset: Dataset, arch: str, cache: Path, progress: Callable[[int], None]
) -> BaseClassifier:
    """The classifier for `dataset`, from the folder `cache`, or trained now and saved there.

    `progress` is called with 1 after each of the `EPOCHS` epochs.
    """
    path = cached_path(dataset, arch, cache)
    if not path.is_file():
        save_classifier(path, arch, _train(dataset, arch, progress))
    return load_classifier(path)


def cached_path(dataset: Dataset, arch: str, cache: Path) -> Path:
    """Where `cached_classifier` keeps the classifier."""
    return cache / f"{dataset.name}-{arch}-{RECIPE}.pt"


def _train(dataset: Dataset, arch: str, progress: Callable[[int], None]) -> torch.nn.Module:
    architecture = ARCHITECTURES[arch]
    generator = torch.Generator().manual_seed(0)
    labels = dataset.train.labels
    images = dataset.train.load(range(len(labels)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = architecture.build(images.shape[1], len(dataset.classes))
    normalised = BaseClassifier(network, architecture.mean, architecture.std).normalise(images)
    network.requires_grad_(True).train()
    adam = Adam(network.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, EPOCHS)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(labels), generator=generator).split(BATCH):
            adam.zero_grad()
            F.cross_entropy(network(normalised[batch]), labels[batch]).backward()
            adam.step()
        schedule.step()
        progress(1)
    return network.eval()
