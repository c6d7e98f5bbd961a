"""Denoisers: networks that map a noisy image to a clean one of the same shape."""

from __future__ import annotations

from torch import Tensor, nn


class DnCNN(nn.Module):
    """Residual denoiser, x -> x - net(x), for images [batch, channels, height, width].

    `depth` convolutions of `width` channels with batch norm in between; orthogonal
    initialisation, and a zero last layer, so that an untrained denoiser is the identity.
    Source: Zhang et al. 2017, Section III; initialisation as in Nayak et al. 2023.
    """

    def __init__(self, channels: int, depth: int = 17, width: int = 64) -> None:
        super().__init__()
        self.channels, self.depth, self.width = channels, depth, width
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
        for _ in range(depth - 2):
            layers += [
                nn.Conv2d(width, width, 3, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            ]
        layers.append(nn.Conv2d(width, channels, 3, padding=1, bias=False))
        self.net = nn.Sequential(*layers)
        for layer in self.net:
            if isinstance(layer, nn.Conv2d):
                nn.init.orthogonal_(layer.weight)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        nn.init.zeros_(self.net[-1].weight)  # type: ignore[arg-type]

    def forward(self, noisy: Tensor) -> Tensor:
        """Denoised images of the same shape; not clamped to [0, 1]."""
        denoised: Tensor = noisy - self.net(noisy)
        return denoised
