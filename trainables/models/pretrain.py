"""Train a base classifier for any data set: python -m trainables.models.pretrain."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import torch.nn.functional as F
import typer
from rich.console import Console
from rich.progress import Progress
from torch import Tensor, nn

from trainables.data.datasets import Dataset, Images, TensorImages, load_dataset
from trainables.errors import InputError
from trainables.models.checkpoint import save_classifier
from trainables.models.classifiers import (
    ARCHITECTURES,
    BaseClassifier,
    find_architecture,
    nearest,
    torchvision_names,
)

INTERRUPTED = 130
# Grey images of at most this height and width need no deeper network than digits_cnn.
SMALL = 32
# Images that take less than this many bytes, with 8 bits a value, are decoded once.
MEMORY = 2**31
# Images that are loaded at once where all of them are gone through.
CHUNK = 512
MOMENTUM, WEIGHT_DECAY = 0.9, 5e-4

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


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

    The accuracy is that on the other tenth. `progress` is called after each epoch with its number
    and its mean loss. Everything random comes from the recipe's seed. SGD with Nesterov momentum,
    one-cycle schedule (Smith and Topin 2019), random crops, and mirroring of RGB images.

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
    # Mirrored digits would be other signs.
    batches = _Batches(images, kept, recipe.batch_size, dataset.name != "svhn", generator)
    _fit(classifier, batches, recipe, progress)
    accuracy = _accuracy(classifier, images, held_out)
    return Trained(network, mean, std, accuracy, len(held_out))


@dataclass(frozen=True)
class _Batches:
    """The images at `indices`, augmented, in random batches; each epoch is another order."""

    images: Images
    indices: Tensor
    batch_size: int
    mirror: bool
    generator: torch.Generator

    def __len__(self) -> int:
        return max(1, len(self.indices) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        shuffled = self.indices[torch.randperm(len(self.indices), generator=self.generator)]
        # The last, smaller batch is left out: batch norm may need more images than it has.
        for batch in shuffled.split(self.batch_size)[: len(self)]:
            pixels = self.images.load(batch.tolist())
            yield _augment(pixels, self.mirror, self.generator), self.images.labels[batch]


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
                f"--learning-rate: the training diverges in epoch {epoch} with "
                f"{recipe.learning_rate:g}; pass a lower one"
            )
        progress(epoch, float(total) / len(batches))
    network.eval()


def _build(
    arch: str, examples: Tensor, classes: int, mean: list[float], std: list[float], seed: int
) -> nn.Module:
    architecture = find_architecture(arch)
    if architecture is None:
        raise InputError(
            f"--arch: {arch!r} is unknown{nearest(arch, [*ARCHITECTURES, *torchvision_names()])}"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = architecture.build(examples.shape[1], classes)
    try:
        BaseClassifier(network, mean, std).probe(examples)
    except InputError as error:
        shape = tuple(examples.shape[1:])
        raise InputError(
            f"--arch: {arch} does not take images of shape {shape}; choose another one of "
            f"{', '.join(ARCHITECTURES)}"
        ) from error
    return network


def _in_memory(images: Images) -> Images:
    """The same images, decoded once if they are few."""
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


def _augment(images: Tensor, mirror: bool, generator: torch.Generator) -> Tensor:
    """Each image moved by up to an eighth of its size, and half of the RGB ones mirrored."""
    count, channels, height, width = images.shape
    margin = max(1, min(height, width) // 8)
    padded = F.pad(images, (margin,) * 4)
    down, right = torch.randint(2 * margin + 1, (2, count, 1), generator=generator)
    rows, columns = down + torch.arange(height), right + torch.arange(width)
    if mirror and channels == 3:
        flipped = torch.rand(count, 1, generator=generator) < 0.5
        columns = torch.where(flipped, columns.flip(1), columns)
    picked = padded[torch.arange(count)[:, None, None], :, rows[:, :, None], columns[:, None]]
    return picked.permute(0, 3, 1, 2)


def _accuracy(classifier: BaseClassifier, images: Images, indices: Tensor) -> float:
    right, device = 0, classifier.mean.device
    with torch.inference_mode():
        for chunk in indices.split(CHUNK):
            predicted = classifier(images.load(chunk.tolist()).to(device)).argmax(1).cpu()
            right += int((predicted == images.labels[chunk]).sum())
    return right / len(indices)


def _chunks(indices: range) -> list[range]:
    return [indices[start : start + CHUNK] for start in range(0, len(indices), CHUNK)]


@app.command()
def pretrain(
    dataset: Annotated[str, typer.Option(metavar="NAME", help="as in tuning.launch")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="the checkpoint to write")],
    data_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="where the data lies")
    ] = None,
    download: Annotated[
        bool, typer.Option("--download", help="fetch the data set if it is not there")
    ] = False,
    arch: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help=f"{', '.join(ARCHITECTURES)}, or torchvision's",
            show_default="by the images",
        ),
    ] = None,
    epochs: Annotated[int, typer.Option(min=1)] = Recipe.epochs,
    batch_size: Annotated[int, typer.Option(min=2)] = Recipe.batch_size,
    learning_rate: Annotated[float, typer.Option(min=1e-9)] = Recipe.learning_rate,
    seed: Annotated[int, typer.Option(min=0)] = Recipe.seed,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="replace FILE if it exists")
    ] = False,
) -> None:
    """Train a base classifier on the training images of a data set."""
    _check_out(out, overwrite)
    data = load_dataset(dataset, data_dir, download=download)
    if arch is None:
        _, channels, height, width = data.train.load([0]).shape
        arch = "digits_cnn" if channels == 1 and max(height, width) <= SMALL else "cifar_resnet20"
    recipe = Recipe(epochs, batch_size, learning_rate, seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    console, started = Console(stderr=True, highlight=False), time.perf_counter()
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(f"{arch} on {device}", total=epochs)

        def show(epoch: int, loss: float) -> None:
            seconds = time.perf_counter() - started
            console.print(f"epoch {epoch}/{epochs}: loss {loss:.3f} ({seconds:.0f} s)")
            bar.advance(task)

        trained = train(data, arch, recipe, show, device)
    save_classifier(out, arch, trained.network.cpu(), trained.mean, trained.std)
    where = [] if data_dir is None else ["--data-dir", str(data_dir)]
    launch = ["python", "-m", "tuning.launch", "--dataset", dataset, *where]
    print(
        f"{trained.accuracy:.1%} of {trained.held_out} held-out training images right: {out}; "
        f"go on with: {shlex.join([*launch, '--classifier', str(out)])}"
    )


def _check_out(out: Path, overwrite: bool) -> None:
    """Refuse, before anything is trained, a file that could not be written afterwards."""
    if out.is_dir() or (out.exists() and not overwrite):
        raise InputError(f"--out: {out} exists; name another file, or pass --overwrite")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out: {out.parent} cannot be made ({error.strerror})") from error
    if not os.access(out.parent, os.W_OK):
        raise InputError(f"--out: {out.parent} is not writable; name another folder")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; one line on standard error if it fails."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        code = app(sys.argv[1:] if arguments is None else arguments, standalone_mode=False)
    except typer.TyperException as error:
        return _fail(_usage(error), 2)
    except InputError as error:
        return _fail(str(error), 2)
    # Typer turns Ctrl-C into this code.
    if code == INTERRUPTED:
        return _fail("interrupted; nothing was written", INTERRUPTED)
    return 0


def _usage(error: typer.TyperException) -> str:
    parameter = getattr(error, "param", None)
    if parameter is not None and error.message:
        return f"{parameter.opts[0]}: {error.message}"
    return " ".join(f"{error.format_message()} (see --help)".split())


def _fail(message: str, code: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
