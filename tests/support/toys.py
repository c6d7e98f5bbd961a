"""Classifiers so small that their samples can be worked out, and images for them."""

import torch
from torch import Tensor, nn

from trainables.models.classifiers import BaseClassifier


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def linear_classifier(
    pixels: int, classes: int = 3, scale: float = 1.0, seed: int = 0
) -> BaseClassifier:
    linear = nn.Linear(pixels, classes)
    with torch.no_grad():
        linear.weight.copy_(scale * torch.randn(classes, pixels, generator=seeded(seed)))
        linear.bias.zero_()
    return BaseClassifier(nn.Sequential(nn.Flatten(), linear))


def curved_classifier() -> BaseClassifier:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        hidden, head = nn.Linear(16, 12), nn.Linear(12, 3)
    return BaseClassifier(nn.Sequential(nn.Flatten(), hidden, nn.Tanh(), head))


def one_pixel_classifier(slope: float = 5.0) -> BaseClassifier:
    linear = nn.Linear(1, 2, bias=False)
    linear.weight.data = torch.tensor([[slope], [-slope]])
    return BaseClassifier(nn.Sequential(nn.Flatten(), linear))


def random_images(count: int, seed: int = 1) -> Tensor:
    return torch.rand(count, 1, 4, 4, generator=seeded(seed))
