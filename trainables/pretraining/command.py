"""Train a base classifier for any data set: python -m trainables.pretraining."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.progress import Progress

from trainables.command import run_command
from trainables.data.datasets import load_dataset
from trainables.errors import InputError
from trainables.models.classifiers import ARCHITECTURES
from trainables.pretraining.training import Recipe, train
from trainables.weights.checkpoint import save_classifier

# Grey images of at most this height and width need no deeper network than digits_cnn.
SMALL = 32

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


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
    return run_command(app, arguments, "nothing was written")
