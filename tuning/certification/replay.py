"""The certificate that a run's procedure makes of votes that were counted before."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from results.verification.votes import Draws, Recipe
from trainables.smoothing.certify import certifying
from trainables.smoothing.noise import Noise
from trainables.smoothing.procedures import make_procedure
from trainables.smoothing.quantised import allowance


def replay(recipe: Recipe, draws: Draws) -> dict[str, Any]:
    """The certificate as columns of its table: which votes it takes, and what they prove.

    Raises:
        LookupError: if it takes draws that were not counted.
        ValueError: if there is no such procedure.
    """
    config = recipe.config
    procedure = make_procedure(
        config["procedure"],
        *(config["n0"], config["n"], config["alpha"]),
        tolerance=config["tolerance"],
        radii=tuple(recipe.radii),
    )
    noise = Noise(recipe.sigma, recipe.pixel_steps)
    allowing = replace(procedure, allowance=allowance(noise, (recipe.pixels,)))
    steps = certifying(allowing, recipe.sigma, recipe.images)
    request = next(steps)
    while True:
        try:
            request = steps.send(draws(*request))
        except StopIteration as ended:
            found: dict[str, Any] = ended.value._asdict()
            return found
