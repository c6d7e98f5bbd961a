"""Classifiers behind HTTP: decrop serve CHECKPOINT, or decrop serve EXPORT.

A checkpoint becomes the reference endpoint of docs/black_box.md, an exported smoothed classifier
the service of docs/deploying.md.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field
from torch import nn

from trainables.black_box.endpoint import HttpClassifier
from trainables.black_box.request_log import logging_requests
from trainables.black_box.server import ClassifierServer
from trainables.black_box.smoothed_server import SmoothedServer
from trainables.command import Flag, read_model, run_command
from trainables.errors import InputError, describe_error
from trainables.models.architectures import CifarResNet, DigitsCNN
from trainables.models.classifiers import BaseClassifier
from trainables.smoothing import SmoothedClassifier
from trainables.smoothing.named import ClassifierFlags, named_classifier
from trainables.weights.checkpoint import load_classifier

# Networks that pool their last features accept any size; these are the sizes they are meant for.
SIZES: dict[type[nn.Module], int] = {DigitsCNN: 8, CifarResNet: 32}


class ServeFlags(ClassifierFlags):
    """What is served, and where."""

    source: Annotated[Path, Flag("CHECKPOINT|EXPORT", positional=True)] = Field(
        description='a checkpoint {"arch", "state_dict"}, or an exported smoothed_classifier'
    )
    host: Annotated[str, Flag("ADDRESS")] = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="0: any free one")
    image_shape: Annotated[str | None, Flag("C,H,W", default="that of the architecture")] = Field(
        None, description="channels, height and width of an image"
    )
    labels_only: bool = Field(False, description="answer with labels, not with logits")
    threads: Annotated[int | None, Flag(default="all; 1 for an export")] = Field(
        None, ge=1, le=1024, description="cores to use"
    )
    device: str = Field("cpu", description="where an export is run: cpu or cuda")
    quiet: bool = Field(False, description="log no requests")


def serve(arguments: Sequence[str] | None) -> None:
    """Serve a classifier to black-box access, or an exported smoothed classifier.

    Raises:
        UserError: with the message and the exit code for the user.
    """
    flags = read_model(
        ServeFlags,
        "decrop serve",
        "Serve a classifier to black-box access, or an exported smoothed classifier.",
        arguments,
    )
    try:
        server = _export_server(flags) if flags.source.is_dir() else _classifier_server(flags)
    except OSError as error:
        raise InputError(
            f"cannot listen on {flags.host}:{flags.port}: {error.strerror}; pass a different one, "
            "or 0",
            field="port",
        ) from error
    with server, nullcontext() if flags.quiet else logging_requests():
        print(f"serving {flags.source} on {server.url}", flush=True)
        server.serve_forever()


def _classifier_server(flags: ServeFlags) -> ClassifierServer:
    for field in ("classifier", "weights"):
        if getattr(flags, field) is not None:
            raise InputError("is for an export; leave it out", field=field)
    if flags.threads is not None:
        torch.set_num_threads(flags.threads)
    classifier = load_classifier(flags.source)
    shape = _shape(flags.image_shape, classifier)
    address = (flags.host, flags.port)
    return ClassifierServer(classifier, shape, address, labels_only=flags.labels_only)


def _export_server(flags: ServeFlags) -> SmoothedServer:
    if flags.image_shape is not None or flags.labels_only:
        field = "labels_only" if flags.image_shape is None else "image_shape"
        raise InputError("is for a checkpoint; leave it out", field=field)
    classifier: nn.Module | None
    if (flags.classifier or "").startswith(("http://", "https://")):
        classifier = HttpClassifier.connect(str(flags.classifier))
    else:
        classifier = named_classifier(flags, flags.source)
    smoothed = SmoothedClassifier.load(flags.source, classifier, threads=flags.threads or 1)
    try:
        smoothed.to(flags.device)
    except RuntimeError as error:
        raise InputError(describe_error(error), field="device") from error
    return SmoothedServer(smoothed, (flags.host, flags.port))


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
