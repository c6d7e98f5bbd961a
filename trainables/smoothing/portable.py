"""Denoiser and classifier for other runtimes: decrop export.

What is written maps noisy images to logits. The noise, the votes and what they prove are not in it.
"""

from __future__ import annotations

import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from trainables.command import Flag, read_model, run_command
from trainables.errors import InputError, describe_error
from trainables.smoothing.export import CONFIG, ExportConfig, load_model
from trainables.smoothing.named import ClassifierFlags, named_classifier
from trainables.weights.extras import optional

Format = Literal["pt2", "onnx"]
# How far logits may be from those of PyTorch, in standard deviations. Runtimes add in other orders.
TOLERANCE = 1e-3
# The images of the example, and those of the passes that are compared.
_TRACED, _COMPARED = 2, (1, 3)
_BATCH = "batch"


class ExportFlags(ClassifierFlags):
    """What is written, and where."""

    source: Annotated[Path, Flag("EXPORT", positional=True)] = Field(
        description="an exported smoothed_classifier"
    )
    to: Format = Field(description="pt2: a program of torch.export; onnx: an ONNX graph")
    out: Annotated[Path | None, Flag("FILE", default="the name of EXPORT, here")] = Field(
        None, description="the file to write"
    )


def write_portable(
    folder: Path, file: Path, to: Format, classifier: nn.Module | None = None
) -> None:
    """Write the denoiser and the classifier of the export in `folder` to `file`.

    The program or graph takes any number of noisy `images`, float32 [batch, C, H, W], and returns
    `logits` [batch, classes]. It computes in float32, and is compared with PyTorch before it is
    written. The export's configuration is stored with it. `classifier` is as in
    `SmoothedClassifier.load`.

    Raises:
        InputError: when the export cannot be loaded, the network cannot be written in that format,
            or computes something else there.
    """
    config, model = load_model(folder, classifier)
    images = _noisy(config, _TRACED, seed=0)
    with tempfile.TemporaryDirectory(dir=file.parent, prefix=".decrop-") as beside:
        written = Path(beside, f"network.{to}")
        try:
            with torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                run = _WRITERS[to](model.eval(), images, config, written)
            apart = max(_apart(model, run, _noisy(config, n, seed=n)) for n in _COMPARED)
        except InputError:
            raise
        except Exception as error:  # exporters raise almost anything about foreign networks
            raise InputError(
                f"the network of {folder} cannot be written as {to}: {describe_error(error)}"
            ) from error
        if not apart <= TOLERANCE:
            raise InputError(
                f"the network of {folder} computes something else as {to}: its logits differ by "
                f"{apart:.1g} standard deviations, more than the {TOLERANCE:g} of rounding"
            )
        os.replace(written, file)


def _noisy(config: ExportConfig, count: int, seed: int) -> Tensor:
    """Noisy images of noise."""
    generator = torch.Generator().manual_seed(seed)
    clean = torch.rand((count, *config.image_shape), generator=generator)
    return clean + config.sigma * torch.randn(clean.shape, generator=generator)


@torch.no_grad()
def _apart(model: nn.Module, run: Callable[[Tensor], Tensor], images: Tensor) -> float:
    """The largest difference of two logits, in standard deviations of all."""
    expected: Tensor = model(images)
    difference = (run(images) - expected).abs().max()
    return float(difference / expected.std(correction=0).clamp_min(torch.finfo().tiny))


def _write_pt2(
    model: nn.Module, images: Tensor, config: ExportConfig, file: Path
) -> Callable[[Tensor], Tensor]:
    shapes = ({0: torch.export.Dim(_BATCH)},)
    program = torch.export.export(model, (images,), dynamic_shapes=shapes)
    torch.export.save(program, file, extra_files={CONFIG: config.text})
    run: Callable[[Tensor], Tensor] = torch.export.load(file).module()
    return run


def _write_onnx(
    model: nn.Module, images: Tensor, config: ExportConfig, file: Path
) -> Callable[[Tensor], Tensor]:
    onnx = optional("onnx", "onnx", "--to onnx")
    runtime = optional("onnxruntime", "onnx", "--to onnx")
    # The newer exporter takes five times as long, and needs onnxscript.
    torch.onnx.export(
        model,
        (images,),
        file,
        input_names=["images"],
        output_names=["logits"],
        dynamic_axes={name: {0: _BATCH} for name in ("images", "logits")},
        dynamo=False,
    )
    graph = onnx.load(file)
    onnx.helper.set_model_props(graph, {CONFIG: config.text})
    onnx.save(graph, file)
    runtime.set_default_logger_severity(4)
    session = runtime.InferenceSession(str(file), providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> Tensor:
        (logits,) = session.run(None, {"images": images.numpy()})
        return torch.from_numpy(logits)

    return run


_WRITERS: dict[str, Callable[..., Callable[[Tensor], Tensor]]] = {
    "pt2": _write_pt2,
    "onnx": _write_onnx,
}


def export(arguments: Sequence[str] | None) -> None:
    """Carry out one command line.

    Raises:
        UserError: with the message and the exit code for the user.
    """
    flags = read_model(
        ExportFlags,
        "decrop export",
        "Write denoiser and classifier for other runtimes: noisy images in, logits out.",
        arguments,
    )
    file = flags.out or Path(f"{flags.source.resolve().name}.{flags.to}")
    if file.exists():
        raise InputError(f"{file} is there already; remove it, or name a different one", "out")
    if not file.parent.is_dir():
        raise InputError(f"{file.parent} is not a folder; make it first", field="out")
    given = named_classifier(flags, flags.source)
    try:
        write_portable(flags.source, file, flags.to, given)
    except OSError as error:
        raise InputError(f"{file} cannot be written: {error.strerror}", field="out") from error
    print(file)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; one line on standard error if it fails."""
    return run_command(export, arguments)


if __name__ == "__main__":
    sys.exit(main())
