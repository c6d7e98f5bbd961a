"""Parameters that may be zero, and parameters that vary in some trials only."""

from collections.abc import Callable

import optuna
import pytest

from search_spaces import SearchSpace, SpaceError, load_space
from tests.support.spaces import BASE, samples

ZERO = {"low": 0.5, "high": 8.0, "log": True, "or_zero": True}


@pytest.mark.parametrize("log", [True, False])
def test_a_weight_that_may_be_zero_often_is(write: Callable[..., str], log: bool) -> None:
    parameters = BASE["parameters"] | {"w_mmd": ZERO | {"log": log}}
    content = BASE | {"parameters": parameters}
    content["published"] = BASE["published"] | {"w_mmd": 4.0}
    space = load_space(write(content))
    weights = [point["w_mmd"] for point in samples(space, 400)]
    zeros = weights.count(0.0)
    # A quarter of the range beyond the range.
    assert 55 < zeros < 110
    assert all(weight == 0 or 0.5 <= weight <= 8 for weight in weights)
    assert max(weights) > 7
    study = optuna.create_study()
    for wanted in (0.0, 0.5, 3.0):
        study.enqueue_trial(space.point({"w_mmd": wanted}))
        assert space.suggest(study.ask())["w_mmd"] == wanted
    assert 0.0 in space.parameters["w_mmd"]
    assert 0.3 not in space.parameters["w_mmd"]
    assert space.parameters["w_mmd"].corners() == (0.0, 0.5, 8.0)


def conditional(write: Callable[..., str], when: object) -> SearchSpace:
    content = dict(BASE)
    content["published"] = BASE["published"] | {"w_mmd": 4.0, "attack_radius": 0.03}
    content["parameters"] = BASE["parameters"] | {
        "w_mmd": ZERO,
        "attack_radius": {"low": 0.01, "high": 0.2, "when": when},
    }
    return load_space(write(content))


@pytest.mark.parametrize("sampler", ["RandomSampler", "TPESampler", "GPSampler"])
def test_a_conditional_parameter_varies_only_where_its_condition_holds(
    write: Callable[..., str], sampler: str
) -> None:
    space = conditional(
        write, {"w_mmd": "nonzero", "interpolation_steps": [1, 2, 3, *range(9, 51)]}
    )
    assert space.conditional
    study = optuna.create_study(sampler=getattr(optuna.samplers, sampler)(seed=0))
    varied = []
    # A model proposes from the eleventh on.
    for _ in range(14):
        trial = study.ask()
        point = space.suggest(trial)
        holds = point["w_mmd"] != 0 and point["interpolation_steps"] not in range(4, 9)
        assert (point["attack_radius"] != 0.03) == holds
        assert ("attack_radius" in trial.params) == holds
        varied.append(holds)
        study.tell(trial, float(point["mix"]))
    assert 3 < sum(varied) < 14


@pytest.mark.parametrize(
    ("when", "complaint"),
    [
        ({"ghost": "nonzero"}, "ghost has no value here"),
        ({"attack_radius": "nonzero"}, "attack_radius has a condition itself"),
        ({"w_mmd": "zero"}, "w_mmd"),
        ({"w_mmd": 3}, "w_mmd"),
        ("nonzero", "when"),
    ],
)
def test_a_condition_that_cannot_be_decided_is_refused(
    write: Callable[..., str], when: object, complaint: str
) -> None:
    with pytest.raises(SpaceError, match=complaint):
        conditional(write, when)


def test_a_condition_on_what_is_fixed_is_decided_once(write: Callable[..., str]) -> None:
    space = conditional(write, {"w_mmd": "nonzero"})
    off, on = space.holding({"w_mmd": 0.0}), space.holding({"w_mmd": 1.0})
    assert {point["attack_radius"] for point in samples(off, 5)} == {0.03}
    assert len({point["attack_radius"] for point in samples(on, 5)}) == 5
