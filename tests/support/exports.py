"""An exported classifier that is as small as possible, and what it was made from."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trainables.models.blueprint import Blueprint
from trainables.models.classifiers import BaseClassifier
from trainables.models.denoisers import DnCNN
from trainables.smoothing.export import CONFIG, ExportConfig
from trainables.smoothing.exporting import export_files
from trainables.smoothing.noise import Noise
from trainables.smoothing.procedures import Fixed, Procedure

SHAPE = (1, 4, 4)
FIXED = Fixed(50, 1000, 0.001)
# A function below, by which a command line can name its classifier.
FACTORY = Blueprint("factory", "tests.support.exports:linear_classifier")


class Constant(nn.Module):
    """Always class 2 of three."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.tensor([0.0, 1.0, 2.0]).expand(len(images), 3)


def trained_denoiser(seed: int = 0) -> DnCNN:
    denoiser = DnCNN(1, 3, 4)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in denoiser.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
        denoiser.train()(torch.rand(8, *SHAPE, generator=generator))
    return denoiser.eval()


def linear_classifier(seed: int = 1) -> nn.Sequential:
    linear = nn.Linear(16, 3)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        linear.weight.copy_(torch.randn(3, 16, generator=generator))
        linear.bias.zero_()
    return nn.Sequential(nn.Flatten(), linear).eval()


def of_factory() -> BaseClassifier:
    """The linear classifier as a command line would load it."""
    return BaseClassifier(linear_classifier(), blueprint=FACTORY)


def write_export(
    folder: Path,
    classifier: nn.Module | None = None,
    noise: Noise = Noise(0.25),  # noqa: B008
    procedure: Procedure = FIXED,
    seed: int = 0,
    **facts: Any,
) -> Path:
    """Write the denoiser of `seed` in front of `classifier`, by default the linear one."""
    model = nn.Sequential(trained_denoiser(seed), classifier or linear_classifier())
    folder.mkdir(exist_ok=True)
    for name, content in export_files(model, SHAPE, noise, procedure, **facts).items():
        (folder / name).write_bytes(content)
    return folder


def rewrite_config(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the configuration as somebody would who knows how its hash is made."""
    config = ExportConfig.model_validate_json((folder / CONFIG).read_text()).model_dump()
    change(config)
    (folder / CONFIG).write_text(ExportConfig.model_validate(config).sealed().text)
