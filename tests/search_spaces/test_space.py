from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml

from search_spaces import SearchSpace, SpaceError, load_space
from search_spaces.space import Parameter, shipped_spaces
from trainables.decrop.config import DecropConfig

optuna.logging.set_verbosity(optuna.logging.ERROR)

BASE: dict[str, Any] = {
    "name": "base",
    "published": {"sigma": 0.25, "mix": 0.8, "interpolation_steps": 1, "flip": False},
    "fixed": {"depth": 5},
    "parameters": {
        "sigma": {"low": 0.12, "high": 0.5, "log": True},
        "mix": {"low": 0.2, "high": 1.0},
        "interpolation_steps": {"low": 1, "high": 50},
        "flip": {"choices": [False, True]},
    },
    "sweep": [0.12, 0.25],
}


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    def _write(content: object, name: str = "space") -> str:
        path = tmp_path / f"{name}.yaml"
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
        return str(path)

    return _write


def refusal(name: str, fixed: dict[str, Any] | None = None) -> str:
    with pytest.raises(SpaceError) as caught:
        load_space(name, fixed)
    message = str(caught.value)
    assert message.startswith("--space: ")
    assert "\n" not in message
    return message


def samples(space: SearchSpace, count: int = 25) -> list[dict[str, Any]]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return [space.suggest(study.ask()) for _ in range(count)]


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


def test_the_shipped_spaces_are_the_yaml_files_of_the_package() -> None:
    assert {"decrop", "digits"} <= set(shipped_spaces())
    assert shipped_spaces() == sorted(shipped_spaces())


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


def test_a_child_is_merged_over_its_parent(write: Callable[..., str]) -> None:
    write(BASE, "base")
    child = {
        "name": "child", "extends": "base", "published": {"mix": 0.5},
        "fixed": {"width": 8}, "parameters": {"mix": {"low": 0.4, "high": 0.6}}, "sweep": [0.5],
    }  # fmt: skip
    space = load_space(write(child, "child"))
    assert space.name == "child"
    assert space.published == BASE["published"] | {"mix": 0.5}
    assert space.fixed == {"depth": 5, "width": 8}
    assert set(space.parameters) == set(BASE["parameters"])
    assert (space.parameters["mix"].low, space.parameters["mix"].high) == (0.4, 0.6)
    assert space.sweep == (0.5,)


def test_a_null_removes_what_the_parent_has(write: Callable[..., str]) -> None:
    write(BASE, "base")
    nulls = {"parameters": {"mix": None}, "fixed": {"depth": None}}
    child = {"name": "child", "extends": "base"} | nulls
    space = load_space(write(child, "child"))
    assert set(space.parameters) == set(BASE["parameters"]) - {"mix"}
    assert space.fixed == {}


def test_a_null_for_what_the_parent_lacks_does_no_harm(write: Callable[..., str]) -> None:
    write({key: value for key, value in BASE.items() if key != "fixed"}, "base")
    child = {"name": "child", "extends": "base", "fixed": {"width": None}}
    assert load_space(write(child, "child")).fixed == {}


def test_spaces_extend_each_other_over_several_generations(write: Callable[..., str]) -> None:
    write(BASE, "base")
    write({"name": "middle", "extends": "base", "fixed": {"width": 8}}, "middle")
    space = load_space(write({"name": "leaf", "extends": "middle"}, "leaf"))
    assert space.fixed == {"depth": 5, "width": 8}


def test_a_users_space_can_extend_a_shipped_one(write: Callable[..., str]) -> None:
    space = load_space(write({"name": "mine", "extends": "digits", "fixed": {"width": 8}}))
    assert space.fixed == load_space("digits").fixed | {"width": 8}


@pytest.mark.parametrize("ring", [["a"], ["a", "b"], ["a", "b", "c"]])
def test_a_space_that_extends_itself_is_refused(write: Callable[..., str], ring: list[str]) -> None:
    for name, parent in zip(ring, [*ring[1:], ring[0]], strict=True):
        write({"name": name, "extends": parent}, name)
    path = write({"name": ring[0], "extends": ring[1 % len(ring)]}, ring[0])
    assert "extends itself" in refusal(path)


def test_a_space_that_extends_itself_by_a_detour_is_refused(
    write: Callable[..., str], tmp_path: Path
) -> None:
    path = write({"name": "space", "extends": f"../{tmp_path.name}/space"})
    assert "extends itself" in refusal(path)


def test_a_space_that_does_not_exist_is_refused_with_the_shipped_ones(tmp_path: Path) -> None:
    message = refusal("ghost")
    assert "ghost" in message
    assert "decrop, digits" in message
    assert "nowhere.yaml" in refusal(str(tmp_path / "nowhere.yaml"))


def test_a_space_that_extends_a_missing_one_is_refused(write: Callable[..., str]) -> None:
    assert "extends ghost, which does not exist" in refusal(
        write({"name": "x", "extends": "ghost"})
    )


@pytest.mark.parametrize(
    "content",
    ["a: [1\n", "a: b: c", "\t- x", "!!python/object/apply:os.getcwd []", b"\xff\xfe\x00"],
    ids=["open bracket", "two colons", "tab", "code", "binary"],
)
def test_invalid_yaml_is_refused(write: Callable[..., str], content: str | bytes) -> None:
    assert "is no valid YAML" in refusal(write(content))


def test_an_impossible_date_is_refused(write: Callable[..., str]) -> None:
    refusal(write(yaml.safe_dump(BASE) + "date: 2024-13-45\n"))


@pytest.mark.parametrize("content", ["", "- 1\n", "just text\n", "7\n"])
def test_yaml_that_is_no_mapping_is_refused(write: Callable[..., str], content: str) -> None:
    assert "holds no mapping" in refusal(write(content))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"published": {"mix": 0.1}}, "published: mix 0.1 is out of its range"),
        ({"published": {"flip": "yes"}}, "published: flip yes is out of its range"),
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
    for _ in range(30):
        trial = study.ask()
        point = space.suggest(trial)
        holds = point["w_mmd"] != 0 and point["interpolation_steps"] not in range(4, 9)
        assert (point["attack_radius"] != 0.03) == holds
        assert ("attack_radius" in trial.params) == holds
        varied.append(holds)
        study.tell(trial, point["mix"])
    assert 3 < sum(varied) < 30


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
