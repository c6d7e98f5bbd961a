from pathlib import Path
from typing import Any

import optuna
import pytest

from search_spaces import SearchSpace, load_space, shipped_spaces
from trainables.data.shots import ShotCount
from trainables.decrop.config import DecropConfig
from tuning.config import make_config, read_yaml
from tuning.errors import ConfigError
from tuning.setting.space import choose_space


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def chosen(space: str, **given: Any) -> SearchSpace:
    config = make_config({"name": "x", "space": space, **given})
    return choose_space(config, "digits", ShotCount("5"), 0.01)


def written(folder: Path, content: str) -> str:
    path = folder / "own.yaml"
    path.write_text(f"name: own\nextends: small\n{content}\n")
    return str(path)


def test_numbers_with_an_exponent_are_numbers_in_a_space(folder: Path) -> None:
    space = chosen(written(folder, "parameters: {learning_rate: {low: 1e-4, high: 1e-2}}"))
    assert (space.parameters["learning_rate"].low, space.fixed.get("width")) == (1e-4, 32)
    space = chosen(written(folder, "parameters: {learning_rate: {choices: [0.001, 5e-3]}}"))
    assert space.parameters["learning_rate"].choices == (1e-3, 5e-3)
    space = chosen(written(folder, "fixed: {weight_decay: 1e-5}\nstart: [{learning_rate: 2e-3}]"))
    assert (space.fixed["weight_decay"], space.start) == (1e-5, ({"learning_rate": 2e-3},))


def test_numbers_with_an_exponent_are_numbers_in_set_and_config(folder: Path) -> None:
    assert chosen("small", set=["learning_rate=5e-3"]).fixed["learning_rate"] == 5e-3
    (folder / "c.yaml").write_text("set: {learning_rate: 5e-3}\nalpha: 1e-4\ntrials: 1e1\n")
    config = make_config({"name": "x", **read_yaml(folder / "c.yaml")})
    assert (config.set, config.alpha, config.trials) == ({"learning_rate": 5e-3}, 1e-4, 10)


def test_values_have_the_type_of_their_hyperparameter(folder: Path) -> None:
    space = chosen(
        written(
            folder,
            "fixed: {width: null, batch_size: null, depth: 5.0}\n"
            "published: {width: 16, batch_size: 5e1}\nstart: [{mix: 1}]\n"
            "parameters: {mix: {low: 0, high: 1}, width: {low: 8.0, high: 3.2e1},"
            " batch_size: {choices: [1e2, 50]}}",
        )
    )
    assert type(space.fixed["depth"]) is int
    assert type(space.start[0]["mix"]) is float
    assert space.parameters["batch_size"].choices == (100, 50)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(20):
        point = space.suggest(study.ask())
        typed = DecropConfig.model_validate(point, strict=True)
        assert {name: getattr(typed, name) for name in point} == point
    assert len({point["mix"] for point in (space.suggest(study.ask()) for _ in range(5))}) == 5


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("parameters: {learning_rate: {choices: [0.001, '5e-3']}}", "learning_rate: .*'5e-3'"),
        ("fixed: {width: 1.5}", "width: .*integer; got 1.5"),
        ("fixed: {width: true}", "width: .*integer; got True"),
        ("fixed: {flip: 'yes'}", "flip: .*boolean; got 'yes'"),
        ("fixed: {denoiser: 3}", "denoiser: .*got 3"),
        ("start: [{mix: '0.5'}]", "mix '0.5' is out of its range"),
        ("start: [{ema_decay: '0.5'}]", "ema_decay"),
        ("parameters: {depth: {low: 3.5, high: 9.5}}\nfixed: {depth: null}", "depth"),
        ("parameters: {lr_decay: {low: 0.1, high: 1.5}}\npublished: {lr_decay: 0.1}", "lr_decay"),
    ],
)
def test_a_value_of_another_type_is_refused_before_anything_starts(
    folder: Path, content: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=f"^--space: .*{message}"):
        chosen(written(folder, content))


@pytest.mark.parametrize("given", ["learning_rate='5e-3'", "learning_rate=[", "width=2e-1"])
def test_a_value_of_another_type_in_set_is_refused(given: str) -> None:
    with pytest.raises(ConfigError):
        chosen("small", set=[given])


@pytest.mark.parametrize("name", shipped_spaces())
def test_shipped_spaces_have_these_types_already(name: str) -> None:
    assert chosen(name).fingerprint() == load_space(name).fingerprint()
