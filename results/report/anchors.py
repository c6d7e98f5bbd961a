"""Published curves on CIFAR-10, for orientation where a run is comparable."""

from collections.abc import Sequence
from typing import NamedTuple

from results.run import Run, Setting

# Certificates of sigmas that differ by more than this are not comparable.
_NEAR = 0.05
_RADII = (0.25, 0.5, 0.75)


class PublishedCurve(NamedTuple):
    """Certified accuracy at radii as published, the sigma it is for, and where it stands."""

    label: str
    source: str
    sigma: float
    radii: Sequence[float]
    accuracy: Sequence[float]


# Both are of classifiers or denoisers that were trained on the whole training set.
PUBLISHED = (
    PublishedCurve(
        "Cohen 2019, trained for noise",
        "Cohen, Rosenfeld and Kolter 2019, a ResNet-110 trained with Gaussian noise on all of "
        "CIFAR-10, sigma 0.25",
        0.25,
        _RADII,
        (0.60, 0.43, 0.27),
    ),
    PublishedCurve(
        "Cohen 2019, trained for noise",
        "Cohen, Rosenfeld and Kolter 2019, a ResNet-110 trained with Gaussian noise on all of "
        "CIFAR-10, sigma 0.5",
        0.5,
        (*_RADII, 1.0, 1.25, 1.5),
        (0.55, 0.41, 0.32, 0.23, 0.15, 0.09),
    ),
    PublishedCurve(
        "Salman 2020, denoiser",
        "Salman et al. 2020, denoised smoothing of a frozen classifier, full access, with all of "
        "CIFAR-10, the best of their sigmas at each radius",
        0.25,
        (*_RADII, 1.0),
        (0.56, 0.41, 0.28, 0.19),
    ),
)


def anchors_for(run: Run, setting: Setting) -> list[PublishedCurve]:
    """The curves for a setting of CIFAR-10 whose best variant has about their sigma."""
    best = setting.certificates.get("best")
    if not best or setting.name.split("-")[0] != "cifar10" or run.config.get("image_size"):
        return []
    sigma = best[0]["sigma"]
    return [curve for curve in PUBLISHED if abs(curve.sigma - sigma) <= _NEAR]
