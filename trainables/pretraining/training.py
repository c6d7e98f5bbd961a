"""Training of a base classifier on any data set."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.data.datasets import Dataset, Images, TensorImages
from trainables.decrop.augmentation import draw_moves, move_images
from trainables.errors import InputError, nearest
from trainables.models.architectures import ARCHITECTURES, find_architecture, torchvision_names
from trainables.models.classifiers import BaseClassifier

# Images that take fewer bytes than this, at 8 bits per value, are decoded only once.
MEMORY = 2**31
# Images loaded at once when iterating over all of them.
CHUNK = 512
MOMENTUM, WEIGHT_DECAY = 0.9, 5e-4


@dataclass(frozen=True)
class Recipe:
    """How to train; the learning rate is the highest of a one-cycle schedule."""

    epochs: int = 30
    batch_size: int = 64
    learning_rate: float = 0.1
    seed: int = 0


@dataclass(frozen=True)
class Trained:
    """A trained network, its normalisation, and its accuracy on `held_out` training images."""

    network: nn.Module
    mean: list[float]
    std: list[float]
    accuracy: float
    held_out: int


def train(
    dataset: Dataset,
    arch: str,
    recipe: Recipe,
    progress: Callable[[int, float], None],
    device: torch.device,
) -> Trained:
    """Train the architecture `arch` on nine tenths of the training images of `dataset`.

    The accuracy is measured on the other tenth. `progress` is called after each epoch with its
    number and mean loss. Everything random comes from the recipe's seed. Training uses SGD with
    Nesterov momentum, a one-cycle schedule (Smith and Topin 2019), random crops, and mirroring of
    RGB images.

    Raises:
        InputError: for an unknown architecture, one that does not take such images, and a
            training that diverges.
    """
    generator = torch.Generator().manual_seed(recipe.seed)
    images = _in_memory(dataset.train)
    order = torch.randperm(len(images.labels), generator=generator)
    held_out, kept = order.tensor_split([max(1, len(order) // 10)])
    mean, std = _statistics(images)
    network = _build(arch, images.load([0, 0]), len(dataset.classes), mean, std, recipe.seed)
    classifier = BaseClassifier(network, mean, std).to(device)
    network.to(memory_format=torch.channels_last)
    network.requires_grad_(True)
    # A mirrored digit is not a digit.
    batches = _Batches(images, kept, recipe.batch_size, dataset.name != "svhn", generator)
    _fit(classifier, batches, recipe, progress)
    accuracy = _accuracy(classifier, images, held_out)
    return Trained(network, mean, std, accuracy, len(held_out))


@dataclass(frozen=True)
class _Batches:
    """The images at `indices`, augmented, in random batches that are drawn anew in each epoch."""

    images: Images
    indices: Tensor
    batch_size: int
    mirror: bool
    generator: torch.Generator

    def __len__(self) -> int:
        return max(1, len(self.indices) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        shuffled = self.indices[torch.randperm(len(self.indices), generator=self.generator)]
        # The last, smaller batch is left out: it may have too few images for batch norm.
        for batch in shuffled.split(self.batch_size)[: len(self)]:
            pixels = self.images.load(batch.tolist())
            yield augmented(pixels, self.mirror, self.generator), self.images.labels[batch]


def augmented(images: Tensor, mirror: bool, generator: torch.Generator) -> Tensor:
    """Each image moved by up to an eighth of its size, and half of the RGB ones mirrored."""
    margin = max(1, min(images.shape[2:]) // 8)
    # Only photographs are as likely as their mirror images.
    moves = draw_moves(images, margin, mirror and images.shape[1] == 3, generator)
    return move_images(images, moves)


def _fit(
    classifier: BaseClassifier,
    batches: _Batches,
    recipe: Recipe,
    progress: Callable[[int, float], None],
) -> None:
    network, device = classifier.network, classifier.mean.device
    sgd = torch.optim.SGD(
        network.parameters(), momentum=MOMENTUM, weight_decay=WEIGHT_DECAY, nesterov=True
    )
    steps = recipe.epochs * len(batches)
    schedule = torch.optim.lr_scheduler.OneCycleLR(sgd, recipe.learning_rate, total_steps=steps)
    network.train()
    for epoch in range(1, recipe.epochs + 1):
        total = torch.zeros((), device=device)
        for pixels, labels in batches:
            pixels = pixels.to(device, memory_format=torch.channels_last)
            loss = F.cross_entropy(classifier(pixels), labels.to(device))
            sgd.zero_grad()
            loss.backward()
            sgd.step()
            schedule.step()
            total += loss.detach()
        if not torch.isfinite(total):
            raise InputError(
                f"the training diverges in epoch {epoch} with {recipe.learning_rate:g}; pass a "
                "lower one",
                field="learning_rate",
            )
        progress(epoch, float(total) / len(batches))
    network.eval()


def _build(
    arch: str, examples: Tensor, classes: int, mean: list[float], std: list[float], seed: int
) -> nn.Module:
    architecture = find_architecture(arch)
    if architecture is None:
        raise InputError(
            f"{arch!r} is unknown{nearest(arch, [*ARCHITECTURES, *torchvision_names()])}",
            field="arch",
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = architecture.build(examples.shape[1], classes)
    try:
        BaseClassifier(network, mean, std).probe(examples)
    except InputError as error:
        shape = tuple(examples.shape[1:])
        raise InputError(
            f"{arch} does not take images of shape {shape}; choose one that does, such as "
            f"{', '.join(ARCHITECTURES)}",
            field="arch",
        ) from error
    return network


def _in_memory(images: Images) -> Images:
    """The same images, decoded now if they fit into `MEMORY`."""
    count = len(images.labels)
    if isinstance(images, TensorImages) or images.load([0]).numel() * count > MEMORY:
        return images
    parts = [images.load(chunk).mul(255).round().byte() for chunk in _chunks(range(count))]
    return TensorImages(torch.cat(parts), images.labels)


def _statistics(images: Images) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel over all images."""
    moments = []
    for chunk in _chunks(range(len(images.labels))):
        pixels = images.load(chunk).double()
        moments.append(torch.stack((pixels.mean((0, 2, 3)), pixels.square().mean((0, 2, 3)))))
        moments[-1] *= len(chunk) / len(images.labels)
    mean, square = torch.stack(moments).sum(0)
    variance = (square - mean.square()).clamp(min=0)
    # A channel that never changes is only centred.
    std = torch.where(variance > 1e-12, variance, 1.0).sqrt()
    return mean.tolist(), std.tolist()


def _accuracy(classifier: BaseClassifier, images: Images, indices: Tensor) -> float:
    right, device = 0, classifier.mean.device
    with torch.inference_mode():
        for chunk in indices.split(CHUNK):
            predicted = classifier(images.load(chunk.tolist()).to(device)).argmax(1).cpu()
            right += int((predicted == images.labels[chunk]).sum())
    return right / len(indices)


def _chunks(indices: range) -> list[range]:
    return [indices[start : start + CHUNK] for start in range(0, len(indices), CHUNK)]
