"""The reference endpoint for a classifier: decrop serve CHECKPOINT.

The protocol is in docs/black_box.md.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import torch
from pydantic import BaseModel, Field
from torch import nn

from trainables.black_box.server import ClassifierServer
from trainables.command import Flag, read_model, run_command
from trainables.errors import InputError
from trainables.models.architectures import CifarResNet, DigitsCNN
from trainables.models.classifiers import BaseClassifier
from trainables.weights.checkpoint import load_classifier

# Networks that pool their last features accept any size; these are the sizes they are meant for.
SIZES: dict[type[nn.Module], int] = {DigitsCNN: 8, CifarResNet: 32}


class ServeFlags(BaseModel):
    """What is served, and where."""

    checkpoint: Annotated[Path, Flag("CHECKPOINT", positional=True)] = Field(
        description='a checkpoint {"arch", "state_dict"}'
    )
    host: Annotated[str, Flag("ADDRESS")] = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="0: any free one")
    image_shape: Annotated[str | None, Flag("C,H,W", default="that of the architecture")] = Field(
        None, description="channels, height and width of an image"
    )
    labels_only: bool = Field(False, description="answer with labels, not with logits")
    threads: Annotated[int | None, Flag(default="all")] = Field(
        None, ge=1, description="cores to use"
    )


def serve(arguments: Sequence[str] | None) -> None:
    """Serve a classifier to black-box access.

    Raises:
        UserError: with the message and the exit code for the user.
    """
    flags = read_model(
        ServeFlags, "decrop serve", "Serve a classifier to black-box access.", arguments
    )
    if flags.threads is not None:
        torch.set_num_threads(flags.threads)
    classifier = load_classifier(flags.checkpoint)
    shape = _shape(flags.image_shape, classifier)
    address = (flags.host, flags.port)
    try:
        server = ClassifierServer(classifier, shape, address, labels_only=flags.labels_only)
    except OSError as error:
        raise InputError(
            f"cannot listen on {flags.host}:{flags.port}: {error.strerror}; pass a different one, "
            "or 0",
            field="port",
        ) from error
    with server:
        print(f"serving {flags.checkpoint} on {server.url}", flush=True)
        server.serve_forever()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; one line on standard error if it fails."""
    # Ctrl-C is the normal way to end it, so nothing is printed then.
    return run_command(serve, arguments)


def _shape(given: str | None, classifier: BaseClassifier) -> tuple[int, int, int]:
    if given is not None:
        sizes = given.split(",")
        if len(sizes) != 3 or not all(size.isdecimal() and int(size) for size in sizes):
            problem = f"{given!r} is not C,H,W; pass for example 3,32,32"
            raise InputError(problem, field="image_shape")
        channels, height, width = map(int, sizes)
        return channels, height, width
    size = SIZES.get(type(classifier.network))
    first = next((m for m in classifier.modules() if isinstance(m, nn.Conv2d)), None)
    if size is None or first is None:
        raise InputError("the checkpoint does not tell it; pass C,H,W", field="image_shape")
    return first.in_channels, size, size


if __name__ == "__main__":
    sys.exit(main())
