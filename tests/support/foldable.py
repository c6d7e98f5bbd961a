"""Networks whose batch norms can be folded into convolutions, and networks that only seem so."""

import torch
from torch import Tensor, nn


class Chain(nn.Module):
    """Three convolutions, each followed by the batch norm whose number `norms` gives."""

    def __init__(self, *norms: int) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            nn.Conv2d(inputs, 4, 3, padding=1) for inputs in (1, 4, 4)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(4) for _ in range(3))
        self.order = norms
        self.head = nn.Linear(4, 3)

    def forward(self, images: Tensor) -> Tensor:
        hidden = images
        for convolution, norm in zip(self.convolutions, self.order, strict=True):
            hidden = torch.relu(self.norms[norm](convolution(hidden)))
        logits: Tensor = self.head(hidden.mean(dim=(2, 3)))
        return logits


class Pair(nn.Module):
    """A convolution and a batch norm, used in the way that a subclass says."""

    def __init__(self, convolution: nn.Module | None = None, norm: nn.Module | None = None) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, 4, 3, padding=1) if convolution is None else convolution
        self.norm = nn.BatchNorm2d(4) if norm is None else norm
        self.head = nn.Linear(4, 3)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.hidden(images).mean(dim=(2, 3)))
        return logits

    def hidden(self, images: Tensor) -> Tensor:
        return torch.relu(self.norm(self.convolution(images)))


class Residual(Pair):
    """The convolution's output goes around its batch norm, too."""

    def hidden(self, images: Tensor) -> Tensor:
        hidden = self.convolution(images)
        return torch.relu(hidden + self.norm(hidden))


class TwoNorms(Pair):
    """The convolution's output goes into two batch norms."""

    def __init__(self) -> None:
        super().__init__()
        self.other = nn.BatchNorm2d(4)

    def hidden(self, images: Tensor) -> Tensor:
        hidden = self.convolution(images)
        return torch.relu(self.norm(hidden)) + torch.relu(self.other(hidden))


class TwoNormsThenOne(TwoNorms):
    """Another convolution follows, with a batch norm of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.later = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.ReLU())

    def hidden(self, images: Tensor) -> Tensor:
        hidden: Tensor = self.later(super().hidden(images))
        return hidden


class ConvolutionUsedTwice(Pair):
    """Once with batch norm and once without."""

    def hidden(self, images: Tensor) -> Tensor:
        hidden: Tensor = torch.relu(self.norm(self.convolution(images)))
        again: Tensor = self.convolution(1 - images)
        return hidden + again


class PairUsedTwice(Pair):
    """The convolution runs twice, and the batch norm each time."""

    def hidden(self, images: Tensor) -> Tensor:
        first, second = self.convolution(images), self.convolution(1 - images)
        return torch.relu(self.norm(first)) + torch.relu(self.norm(second))


class NormUsedTwice(Pair):
    """Once after the convolution and once on something else."""

    def hidden(self, images: Tensor) -> Tensor:
        hidden = torch.relu(self.norm(self.convolution(images)))
        return torch.relu(self.norm(hidden))


class TwoNames(Pair):
    """The convolution is found under a name by which it is not called."""

    def __init__(self) -> None:
        super().__init__()
        self.alias = self.convolution

    def hidden(self, images: Tensor) -> Tensor:
        return torch.relu(self.norm(self.alias(images)))


class ChangedInPlace(Pair):
    """Something happens to the output before the batch norm sees it."""

    def hidden(self, images: Tensor) -> Tensor:
        hidden = self.convolution(images)
        hidden += 0.5 * images
        return torch.relu(self.norm(hidden))


class Strides(Pair):
    """Reads memory as if it were contiguous, without an error where it is not."""

    def hidden(self, images: Tensor) -> Tensor:
        hidden = super().hidden(images)
        mixed = hidden.as_strided((len(images), 4, 64), (256, 64, 1)).cumsum(dim=2)
        return mixed.view(len(images), 4, 8, 8)


class Viewed(Pair):
    """The usual way to flatten in tutorials, which raises unless memory is contiguous."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(256, 3)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.hidden(images).view(-1, 256))
        return logits


class FiveDimensions(Pair):
    """Holds a tensor for which there is no channels-last layout."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("shift", torch.full((1, 1, 1, 1, 1), 0.25))

    def hidden(self, images: Tensor) -> Tensor:
        return super().hidden(images) + self.get_buffer("shift")[0]


def randomised(network: nn.Module, seed: int = 0) -> nn.Module:
    """The network as if it had been trained: batch norm does something in every channel."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                for tensor, low, high in (
                    (module.weight, 0.5, 1.5), (module.bias, -0.5, 0.5),
                    (module.running_mean, -0.5, 0.5), (module.running_var, 0.5, 2.0),
                ):  # fmt: skip
                    if tensor is not None:
                        tensor.copy_(
                            low + (high - low) * torch.rand(len(tensor), generator=generator)
                        )
    return network


def build(make: object) -> nn.Module:
    assert callable(make)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network: nn.Module = make()
    return randomised(network)
