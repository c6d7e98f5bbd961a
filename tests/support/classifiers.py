"""Classifiers of every kind, and images for them."""

import torch
from torch import Tensor, nn

from trainables.models.architectures import ARCHITECTURES
from trainables.models.classifiers import BaseClassifier


def random_images(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def build(arch: str, classes: int = 7) -> BaseClassifier:
    channels = 1 if arch == "digits_cnn" else 3
    return BaseClassifier(
        ARCHITECTURES[arch].build(channels, classes),
        ARCHITECTURES[arch].mean,
        ARCHITECTURES[arch].std,
    )


class Disordered(nn.Module):
    """Registers its head first, has an unused head last, and calls a layer that it shares."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(5, 3)
        self.hidden = nn.Linear(4, 5)
        self.auxiliary = nn.Linear(5, 2)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(torch.tanh(self.hidden(images.flatten(1))))
        return logits
