"""Spaces that are merged from several YAML files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from search_spaces import load_space, shipped_spaces
from search_spaces.composition import COMBINATIONS, DATASETS, FOLDER, SHARES
from tests.search_spaces.refusal import refusal
from tests.support.spaces import BASE


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
    assert "is not valid YAML" in refusal(write(content))


def test_an_impossible_date_is_refused(write: Callable[..., str]) -> None:
    refusal(write(yaml.safe_dump(BASE) + "date: 2024-13-45\n"))


@pytest.mark.parametrize("content", ["", "- 1\n", "just text\n", "7\n"])
def test_yaml_that_is_not_a_mapping_is_refused(write: Callable[..., str], content: str) -> None:
    assert "is not a mapping" in refusal(write(content))


def test_several_spaces_are_merged_from_left_to_right(write: Callable[..., str]) -> None:
    write(BASE, "base")
    write({"fixed": {"width": 8, "epochs": 1}, "sweep": [0.5]}, "left")
    write({"fixed": {"epochs": 2, "seed": 2}, "rungs": [0.5]}, "right")
    child = {"name": "child", "extends": ["base", "left", "right"], "fixed": {"seed": 3}}
    space = load_space(write(child, "child"))
    assert space.fixed == {"depth": 5, "width": 8, "epochs": 2, "seed": 3}
    assert (space.sweep, space.rungs) == ((0.5,), (0.5,))
    child["extends"] = ["base", "right", "left"]
    assert load_space(write(child, "child")).fixed["epochs"] == 1


def test_a_space_without_a_name_of_its_own_has_the_last_one(write: Callable[..., str]) -> None:
    write(BASE, "base")
    write({"name": "second"}, "left")
    write({"fixed": {"width": 8}}, "right")
    assert load_space(write({"extends": ["base", "left", "right"]})).name == "second"


def test_what_two_spaces_both_extend_does_not_undo_the_first(write: Callable[..., str]) -> None:
    write(BASE, "base")
    write({"extends": "base", "fixed": {"depth": 9}, "parameters": {"mix": None}}, "left")
    write({"extends": "base", "fixed": {"width": 8}}, "right")
    for names in (["left", "right"], ["left", "right", "base"], ["base", "left", "right"]):
        space = load_space(write({"name": "child", "extends": names}, "child"))
        assert space.fixed == {"depth": 9, "width": 8}
        assert "mix" not in space.parameters


def test_a_later_entry_replaces_a_whole_one(write: Callable[..., str]) -> None:
    conditional = {"low": 0.2, "high": 1.0, "when": {"flip": "nonzero"}}
    write(BASE | {"parameters": BASE["parameters"] | {"mix": conditional}}, "base")
    write({"parameters": {"mix": {"choices": [0.5, 0.8]}}, "start": [{"mix": 0.5}]}, "left")
    write({"start": [{"sigma": 0.3}]}, "right")
    space = load_space(write({"extends": ["base", "left", "right"]}))
    assert space.parameters["mix"].model_dump(exclude_defaults=True) == {"choices": (0.5, 0.8)}
    assert space.start == ({"sigma": 0.3},)


def test_what_one_part_removes_a_later_one_can_add(write: Callable[..., str]) -> None:
    write(BASE, "base")
    write({"parameters": {"mix": None, "flip": None}, "fixed": {"depth": None}}, "left")
    write({"parameters": {"mix": {"choices": [0.8]}}, "fixed": {"mix": None}}, "right")
    space = load_space(write({"extends": ["base", "left", "right"]}))
    assert space.parameters["mix"].choices == (0.8,)
    assert "flip" not in space.parameters
    assert space.fixed == {}


@pytest.mark.parametrize(
    ("part", "complaint"),
    [
        ({"fixed": {"mix": 0.5}}, "mix is both fixed and varied; set one of the two to null"),
        ({"parameters": {"depth": {"choices": [5]}}}, "depth is both fixed and varied"),
        ({"parameters": {"mix": {"low": 0.2, "high": 0.9}}}, "start: mix 1.0 is out of its range"),
        ({"parameters": {"sigma": {"low": 0.2, "high": 0.5}}}, "sweep: sigma 0.12 is outside"),
        ({"published": {"flip": None}, "parameters": {"flip": None}}, "when: flip has no value"),
        ({"parameters": {"flip": {"choices": [False], "when": {"depth": [5]}}}}, "flip has a cond"),
        ({"parameters": [1]}, "parameters"),
        ({"layers": 3}, "layers"),
    ],
)  # fmt: skip
def test_parts_that_do_not_fit_together_are_refused(
    write: Callable[..., str], part: dict[str, Any], complaint: str
) -> None:
    steps = {"low": 1, "high": 50, "when": {"flip": "nonzero"}}
    parameters = BASE["parameters"] | {"interpolation_steps": steps}
    write(BASE | {"parameters": parameters, "start": [{"mix": 1.0}]}, "base")
    assert load_space(write({"name": "child", "extends": ["base"]}, "child")).name == "child"
    write(part, "part")
    message = refusal(write({"name": "child", "extends": ["base", "part"]}, "child"))
    assert complaint in message
    assert "child.yaml" in message


def test_parts_alone_are_not_a_space(write: Callable[..., str]) -> None:
    write({"fixed": {"width": 8}}, "left")
    write({"rungs": [0.5]}, "right")
    assert "has no name" in refusal(write({"extends": ["left", "right"]}))
    assert "published" in refusal(write({"name": "child", "extends": ["left", "right"]}))
    for share in SHARES:
        message = refusal(share)
        assert f"{share} has no name" in message
        assert "extends: [svhn, 10pct]" in message


@pytest.mark.parametrize("extends", [7, 0, True, {"base": "left"}, [7], ["base", None], [["base"]]])
def test_extends_takes_only_names(write: Callable[..., str], extends: object) -> None:
    write(BASE, "base")
    message = refusal(write({"name": "child", "extends": extends}, "child"))
    assert "child.yaml: extends takes a name or a list of names; got" in message


@pytest.mark.parametrize("extends", [None, []])
def test_a_space_may_extend_nothing(write: Callable[..., str], extends: object) -> None:
    assert load_space(write(BASE | {"extends": extends})).fixed == BASE["fixed"]


def test_a_missing_part_is_refused_by_its_name(write: Callable[..., str]) -> None:
    write(BASE, "base")
    write({"extends": ["base", "ghost"]}, "left")
    assert "left.yaml extends ghost, which does not exist" in refusal(
        write({"name": "x", "extends": ["base", "left"]})
    )


def test_a_space_that_extends_itself_through_a_later_part_is_refused(
    write: Callable[..., str],
) -> None:
    write(BASE, "base")
    write({"extends": ["base", "space"]}, "part")
    assert "part.yaml extends itself through space" in refusal(
        write({"name": "space", "extends": ["base", "part"]})
    )


def test_a_file_beside_the_space_goes_before_a_shipped_one(write: Callable[..., str]) -> None:
    write({"fixed": {"epochs": 3}}, "10pct")
    space = load_space(write({"name": "mine", "extends": ["cifar10", "10pct"]}))
    assert space.fixed == {"epochs": 3}


def test_a_users_space_can_be_composed_of_shipped_ones(write: Callable[..., str]) -> None:
    path = write({"name": "cifar100-10pct", "extends": ["decrop", "cifar100", "10pct"]})
    assert load_space(path) == load_space("cifar100-10pct")
    path = write({"name": "mine", "extends": ["svhn", "small"]})
    space = load_space(path)
    assert space.fixed == {"flip": False, **load_space("small").fixed}
    assert space.parameters == load_space("small").parameters


def test_parts_are_the_shipped_files_without_a_name() -> None:
    names = {path.stem: yaml.safe_load(path.read_text()) for path in FOLDER.glob("*.yaml")}
    assert {name for name, content in names.items() if "name" not in content} == set(SHARES)
    assert not set(SHARES) & set(shipped_spaces())


def test_a_data_set_and_a_share_are_combined_by_name(write: Callable[..., str]) -> None:
    path = write({"name": "mnist-10pct", "extends": ["mnist", "10pct"]})
    assert not (FOLDER / "mnist-10pct.yaml").exists()
    assert load_space("mnist-10pct") == load_space(path)
    assert load_space(write({"extends": "mnist-10pct"})) == load_space(path)


def test_a_combination_with_a_file_is_what_the_file_says(write: Callable[..., str]) -> None:
    assert load_space("digits-1pct").fixed["epochs"] == 400
    write(BASE, "mnist-10pct")
    assert load_space(write({"extends": "mnist-10pct"})).name == "base"


def test_only_data_sets_and_shares_are_combined(write: Callable[..., str], tmp_path: Path) -> None:
    for name in ("small-1pct", "mnist-5pct", "mnist-small", "10pct-mnist", "mnist-1pct-10pct"):
        assert "does not exist" in refusal(name)
        assert "does not exist" in refusal(write({"name": "x", "extends": name}))
    assert "does not exist" in refusal(str(tmp_path / "mnist-10pct.yaml"))
    assert "mnist, mnist-10pct, mnist-1pct, small" in refusal("ghost")


def test_every_shipped_file_for_a_data_set_is_combined_with_the_shares() -> None:
    files = {path.stem for path in FOLDER.glob("*.yaml")}
    assert files - set(COMBINATIONS) == {"decrop", "small", *DATASETS, *SHARES}
