"""Train a base classifier for any data set: decrop pretrain."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
from pydantic import BaseModel, Field
from rich.console import Console
from rich.progress import Progress

from trainables.command import Flag, flag, read_model, run_command
from trainables.data.datasets import load_dataset
from trainables.data.form import UNCHANGED, ImageForm
from trainables.data.images import say_notes
from trainables.errors import InputError
from trainables.models.architectures import ARCHITECTURES
from trainables.pretraining.training import Recipe, train
from trainables.weights.checkpoint import save_classifier

# For grey images of at most this height and width, digits_cnn is deep enough.
SMALL = 32


class _OwnFlags(BaseModel):
    """What is trained, on which data set, and where it goes."""

    dataset: Annotated[str, Flag("NAME")] = Field(description="as for decrop launch")
    out: Annotated[Path, Flag("FILE")] = Field(description="the checkpoint to write")
    data_dir: Annotated[Path | None, Flag("DIR")] = Field(None, description="where the data lies")
    download: bool = Field(False, description="fetch the data set if it is not there")
    arch: Annotated[str | None, Flag("NAME", default="by the images")] = Field(
        None, description=f"{', '.join(ARCHITECTURES)}, or torchvision's"
    )
    epochs: int = Field(Recipe.epochs, ge=1, description="passes over the images")
    batch_size: int = Field(Recipe.batch_size, ge=2, description="images in a step")
    learning_rate: float = Field(Recipe.learning_rate, ge=1e-9, description="the highest one")
    seed: int = Field(Recipe.seed, ge=0, lt=2**63, description="everything random comes from it")
    overwrite: bool = Field(False, description="replace FILE if it exists")


# Pydantic takes the fields of the last base first.
class PretrainFlags(ImageForm, _OwnFlags):
    """The flags of `decrop pretrain`."""


def pretrain(arguments: Sequence[str] | None) -> None:
    """Train a base classifier on the training images of a data set.

    Raises:
        UserError: with the message and the exit code for the user.
    """
    flags = read_model(PretrainFlags, "decrop pretrain", "Train a base classifier.", arguments)
    _check_out(flags.out, flags.overwrite)
    data = load_dataset(flags.dataset, flags.data_dir, download=flags.download, form=flags)
    arch = flags.arch
    if arch is None:
        _, channels, height, width = data.train.load([0]).shape
        arch = "digits_cnn" if channels == 1 and max(height, width) <= SMALL else "cifar_resnet20"
    recipe = Recipe(flags.epochs, flags.batch_size, flags.learning_rate, flags.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    console, started = Console(stderr=True, highlight=False), time.perf_counter()
    say_notes([data], partial(console.print, markup=False))
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(f"{arch} on {device}", total=flags.epochs)

        def show(epoch: int, loss: float) -> None:
            seconds = time.perf_counter() - started
            console.print(f"epoch {epoch}/{flags.epochs}: loss {loss:.3f} ({seconds:.0f} s)")
            bar.advance(task)

        trained = train(data, arch, recipe, show, device)
    save_classifier(flags.out, arch, trained.network.cpu(), trained.mean, trained.std)
    where = [] if flags.data_dir is None else ["--data-dir", str(flags.data_dir)]
    form = [
        f"{flag(name)}={value}"
        for name, value in flags.model_dump(include={*ImageForm.model_fields}).items()
        if value != getattr(UNCHANGED, name)
    ]
    launch = ["python", "-m", "tuning.launch", "--dataset", flags.dataset, *where, *form]
    print(
        f"accuracy {trained.accuracy:.1%} on {trained.held_out} held-out training images: "
        f"{flags.out}; continue with: {shlex.join([*launch, '--classifier', str(flags.out)])}"
    )


def _check_out(out: Path, overwrite: bool) -> None:
    """Refuse, before anything is trained, a file that could not be written afterwards."""
    if out.is_dir() or (out.exists() and not overwrite):
        problem = f"{out} exists; name a different file, or pass `overwrite`"
        raise InputError(problem, field="out")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        problem = f"{out.parent} cannot be created ({error.strerror})"
        raise InputError(problem, field="out") from error
    if not os.access(out.parent, os.W_OK):
        raise InputError(f"{out.parent} is not writable; name a different folder", field="out")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; one line on standard error if it fails."""
    return run_command(pretrain, arguments, "nothing was written")
