"""Example images for the report: a few that are certified, with noise and denoised."""

from __future__ import annotations

from torch import nn

from results.examples import Examples
from results.schema import VARIANTS
from trainables.smoothing.showing import places, show
from tuning.certification.subjects import Subject


def example_images(subject: Subject, seed: int) -> Examples:
    """Pictures of certified images, of different classes where there are as many.

    All variants get the same draws of noise, each scaled by its sigma. They are not those that the
    certificates are made of, of which there are thousands. Further models are left out.
    """
    models = {name: subject.models[name] for name in VARIANTS if name in subject.models}
    chosen = places(subject.test.labels)
    clean = subject.test.images[chosen]
    shown = {
        name: show(model.denoiser or nn.Identity(), clean, model.sigma, seed)
        for name, model in models.items()
    }
    return Examples(
        tuple(subject.test.indices[place] for place in chosen),
        next(iter(shown.values()))[0],
        {name: noisy for name, (_, noisy, _) in shown.items()},
        {name: shown[name][2] for name, model in models.items() if model.denoiser is not None},
    )
