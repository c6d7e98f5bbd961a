"""What is certified, and how sure a certificate is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, Field, field_validator

from trainables.choices import (
    MOST_PILOT_VOTES,
    MOST_VOTES,
    NoiseName,
    ProcedureName,
    ascending,
)
from trainables.command import Flag
from tuning.config.lists import Numbers
from tuning.errors import ConfigError

if TYPE_CHECKING:
    from trainables.smoothing.procedures import Procedure


class CertificateConfig(BaseModel, frozen=True, extra="forbid"):
    """How certificates are made."""

    certify_images: int = Field(
        200, ge=1, description="test images to certify, or all if there are fewer"
    )
    n: int = Field(
        10_000,
        ge=1,
        le=MOST_VOTES,
        description="votes that bound the probability of the class, at most",
    )
    n0: int = Field(100, ge=1, le=MOST_PILOT_VOTES, description="votes that pick the class")
    alpha: float = Field(
        0.001, gt=0, lt=1, description="probability that one certificate is wrong, at most"
    )
    radii: Annotated[Numbers, Flag("R[,R]", default="the space's; 0,0.25,0.5,0.75")] = Field(
        (),
        description="L2 radii that you care about: in the objective, in tables and report, and in "
        "--procedure adaptive",
    )
    procedure: ProcedureName = Field(
        "tolerance",
        description="how many votes: all n; as many as keep the radius within --tolerance of that "
        "of all n; or as many as decide --radii, and nothing else",
    )
    tolerance: float = Field(
        0.02,
        gt=0,
        allow_inf_nan=False,
        description="how much smaller a radius may be than that of all n votes",
    )
    noise: NoiseName = Field(
        "gaussian",
        description="noise of certificates; quantised: on the grid of the pixels, for which the "
        "proof holds in floating point",
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="precision of training and of votes; auto: the faster one of each, measured "
        "once in a run, and bfloat16 to train on a GPU that has it",
    )

    @field_validator("radii")
    @classmethod
    def _ascending(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        return ascending(value)

    def certificates(self, radii: tuple[float, ...]) -> Procedure:
        """How certificates are made in a setting whose users care about `radii`."""
        # Imported only when needed: SciPy takes long to import.
        from trainables.smoothing.procedures import make_procedure

        numbers = (self.n0, self.n, self.alpha)
        return make_procedure(self.procedure, *numbers, tolerance=self.tolerance, radii=radii)


def check_certificate(config: CertificateConfig) -> None:
    """Refuse flags that contradict each other.

    Raises:
        ConfigError: naming one of them.
    """
    if config.n < config.n0:
        raise ConfigError(f"--n: must be at least --n0, {config.n0}; got {config.n}")
