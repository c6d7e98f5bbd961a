from collections.abc import Callable
from typing import Any

import optuna
import pytest

from search_spaces import SpaceError, load_space, shipped_spaces
from search_spaces.space import Parameter
from tests.search_spaces.refusal import refusal
from tests.support.spaces import BASE, samples
from trainables.decrop.config import DecropConfig

optuna.logging.set_verbosity(optuna.logging.ERROR)


@pytest.mark.parametrize("name", shipped_spaces())
def test_every_shipped_space_proposes_only_valid_points_inside_its_ranges(name: str) -> None:
    space = load_space(name)
    assert space.name == name
    for point in samples(space):
        assert set(point) == {*space.constants, *space.parameters}
        for parameter, allowed in space.parameters.items():
            assert point[parameter] in allowed
        for parameter, value in space.fixed.items():
            assert point[parameter] == value
        DecropConfig.model_validate(point)


@pytest.mark.parametrize("name", shipped_spaces())
def test_published_and_start_points_of_every_shipped_space_can_be_proposed(name: str) -> None:
    space = load_space(name)
    for change in ({}, *space.start):
        wanted = {**space.published, **space.fixed, **change}
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        study.enqueue_trial(space.point(change))
        assert space.suggest(study.ask()) == wanted
        DecropConfig.model_validate(wanted)


@pytest.mark.parametrize("name", shipped_spaces())
def test_all_corners_of_every_shipped_space_are_valid(name: str) -> None:
    for parameter, allowed in load_space(name).parameters.items():
        for corner in allowed.corners():
            DecropConfig.model_validate({parameter: corner})


def test_the_root_space_publishes_the_recipe_of_the_paper() -> None:
    published = load_space("decrop").published
    assert DecropConfig.model_validate(published) == DecropConfig()


def test_random_proposals_cover_ranges_choices_and_integers(write: Callable[..., str]) -> None:
    points = samples(load_space(write(BASE)), 200)
    assert min(p["mix"] for p in points) < 0.25
    assert max(p["mix"] for p in points) > 0.95
    assert {p["flip"] for p in points} == {False, True}
    assert {type(p["interpolation_steps"]) for p in points} == {int}
    assert max(p["interpolation_steps"] for p in points) > 40
    # On a logarithmic scale, half of the proposals lie below the geometric mean.
    below = sum(p["sigma"] < (0.12 * 0.5) ** 0.5 for p in points)
    assert 70 < below < 130


def test_a_study_can_start_from_the_published_point(write: Callable[..., str]) -> None:
    space = load_space(write(BASE))
    study = optuna.create_study()
    study.enqueue_trial(space.point({}))
    assert space.suggest(study.ask()) == BASE["published"] | BASE["fixed"]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"published": {"mix": 0.1}}, "published: mix 0.1 is out of its range"),
        ({"published": {"flip": "yes"}}, "published: flip 'yes' is out of its range"),
        ({"published": {"mix": None}}, "published: lacks mix"),
        ({"rungs": [0.5, 0.25]}, "rungs: must ascend"),
        ({"rungs": [0.5, 0.5]}, "rungs: must ascend"),
        ({"rungs": [0.0, 0.5]}, "rungs: must ascend"),
        ({"rungs": [0.5, 1.0]}, "rungs: must ascend"),
        ({"rungs": [float("nan")]}, "rungs: must ascend"),
        ({"rungs": "often"}, "rungs"),
        ({"sweep": [0.25, 0.9]}, "sweep: sigma 0.9 is outside"),
        ({"sweep": []}, "sweep"),
        ({"sweep": None}, "sweep"),
        ({"budget": 3}, "budget"),
        ({"name": None}, "name"),
        ({"parameters": None}, "parameters"),
        ({"parameters": [1]}, "parameters"),
        ({"parameters": {"mix": {"low": 1.0, "high": 0.2}}}, "low <= high"),
        ({"parameters": {"mix": {"low": 0.2}}}, "parameters.mix"),
        ({"parameters": {"mix": {}}}, "parameters.mix"),
        ({"parameters": {"mix": 0.5}}, "parameters.mix"),
        ({"parameters": {"mix": {"choices": []}}}, "parameters.mix"),
        ({"parameters": {"mix": {"choices": [0.8], "low": 0.2}}}, "parameters.mix"),
        ({"parameters": {"mix": {"low": 0.0, "high": 1.0, "log": True}}}, "positive low"),
        ({"parameters": {"mix": {"low": 0.2, "high": 1.0, "step": 0.1}}}, "parameters.mix.step"),
        ({"parameters": {"mix": {"low": "0.2", "high": 1.0}}}, "parameters.mix.low"),
        ({"parameters": {"mix": {"low": True, "high": 1.0}}}, "parameters.mix.low"),
        ({"parameters": {"mix": {"low": float("nan"), "high": 1.0}}}, "mix"),
        ({"fixed": [1]}, "fixed"),
        ({1: 2}, "1"),
    ],
)  # fmt: skip
def test_an_inconsistent_space_is_refused_naming_the_place(
    write: Callable[..., str], change: dict[str, Any], complaint: str
) -> None:
    write(BASE, "base")
    message = refusal(write({"name": "child", "extends": "base"} | change, "child"))
    assert complaint in message
    assert "child.yaml" in message


def test_the_fingerprint_stays_while_the_content_does(write: Callable[..., str]) -> None:
    reordered = dict(reversed(list(BASE.items())))
    prints = [load_space(write(content)).fingerprint() for content in (BASE, BASE, reordered)]
    assert len(set(prints)) == 1
    assert len(prints[0]) == 8
    assert set(prints[0]) <= set("0123456789abcdef")


def test_the_fingerprint_changes_with_any_content(write: Callable[..., str]) -> None:
    write(BASE, "base")
    changes: list[dict[str, Any]] = [
        {}, {"published": {"mix": 0.7}}, {"fixed": {"depth": 6}}, {"rungs": [0.5]},
        {"parameters": {"mix": {"low": 0.2, "high": 0.9}}}, {"sweep": [0.25]},
        {"parameters": {"mix": None}}, {"parameters": {"mix": {"choices": [0.2, 0.8]}}},
        {"parameters": {"mix": {"low": 0.2, "high": 1.0, "log": True}}},
    ]  # fmt: skip
    prints = set()
    for change in changes:
        prints.add(load_space(write({"name": "x", "extends": "base"} | change)).fingerprint())
    prints.add(load_space(write({"name": "y", "extends": "base"})).fingerprint())
    assert len(prints) == len(changes) + 1


def test_a_fixed_hyperparameter_is_no_longer_varied(write: Callable[..., str]) -> None:
    path = write(BASE)
    space = load_space(path, {"mix": 0.33, "epochs": 7})
    assert set(space.parameters) == set(BASE["parameters"]) - {"mix"}
    assert space.fixed == {"depth": 5, "mix": 0.33, "epochs": 7}
    assert {p["mix"] for p in samples(space, 5)} == {0.33}
    assert "mix" not in space.point({})
    assert space.fingerprint() != load_space(path).fingerprint()


def test_a_hyperparameter_that_the_file_both_fixes_and_varies_is_held_fixed_or_refused(
    write: Callable[..., str],
) -> None:
    write(BASE, "base")
    path = write({"name": "child", "extends": "base", "fixed": {"mix": 0.33}}, "child")
    try:
        points = samples(load_space(path), 5)
    except SpaceError:
        points = []
    assert {point["mix"] for point in points} <= {0.33}


@pytest.mark.parametrize("change", [{"parameters": None}, {"parameters": [1]}, {"fixed": [1]}])
def test_fixing_a_hyperparameter_of_a_broken_space_is_refused(
    write: Callable[..., str], change: dict[str, Any]
) -> None:
    write(BASE, "base")
    path = write({"name": "child", "extends": "base"} | change, "child")
    assert "child.yaml" in refusal(path, {"mix": 0.5})


def test_the_nearest_point_changes_only_what_is_varied(write: Callable[..., str]) -> None:
    space = load_space(write(BASE))
    point = space.point({"mix": 0.5, "w_mmd": 0.0, "depth": 9, "sigma": 7.0})
    assert point == BASE["published"] | {"mix": 0.5}


def test_ranges_include_their_ends_and_nothing_beyond() -> None:
    numbers, choices = Parameter(low=1, high=5), Parameter(choices=(1, "a"))
    assert all(value in numbers for value in (1, 2.5, 5))
    assert not any(value in numbers for value in (0.99, 5.01, "3", None, float("nan")))
    assert "a" in choices
    assert 2 not in choices
    assert numbers.corners() == (1, 5)
    assert choices.corners() == (1, "a")


def test_a_space_cannot_be_changed(write: Callable[..., str]) -> None:
    space = load_space(write(BASE))
    with pytest.raises(ValueError, match="frozen"):
        space.name = "other"  # type: ignore[misc]


def test_the_largest_sigma_is_that_of_trials_and_baselines(write: Callable[..., str]) -> None:
    without = {**BASE, "parameters": {}, "published": {}, "start": [], "sweep": [0.2]}
    assert load_space(write(without)).largest_sigma == 0.2
    assert load_space("digits").largest_sigma == 0.5
    chosen = {**without, "published": {"sigma": 0.25}}
    chosen["parameters"] = {"sigma": {"choices": [0.25, 0.2, 0.9]}}
    assert load_space(write(chosen)).largest_sigma == 0.9
    assert load_space("digits", {"sigma": 0.75}).largest_sigma == 0.75
