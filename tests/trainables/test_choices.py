"""The names that can be known before the code is imported are those that the code has."""

from typing import get_args

import pytest

from trainables.choices import PUBLISHED_DATASETS, ProcedureName, objective_radii
from trainables.data.torchvision_sets import SETS
from trainables.smoothing.procedures import make_procedure


def test_published_data_sets_are_those_that_can_be_loaded() -> None:
    assert tuple(SETS) == PUBLISHED_DATASETS


@pytest.mark.parametrize("name", get_args(ProcedureName))
def test_every_procedure_can_be_made(name: ProcedureName) -> None:
    assert make_procedure(name, 10, 100, 0.1, tolerance=0.1, radii=(0.5,)).name == name


@pytest.mark.parametrize(
    "text", ["loss", "certified-accuracy@", "certified-accuracy@0.5,0.5", "ACR", ""]
)
def test_an_unknown_objective_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"certified-accuracy@R|must ascend"):
        objective_radii(text)


def test_an_objective_may_name_radii() -> None:
    assert objective_radii("certified-accuracy@0.5,1") == (0.5, 1.0)
    assert objective_radii("certified-accuracy") == objective_radii("pareto") == ()
    assert objective_radii("acr") is None
