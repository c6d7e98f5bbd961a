from pathlib import Path

import pytest
from typer.main import get_command

from tuning.config import make_config, read_yaml, setting_name, to_yaml
from tuning.errors import ConfigError
from tuning.launch import app
from tuning.setting.space import choose_space


def test_configuration_survives_a_round_trip_through_yaml(tmp_path: Path) -> None:
    config = make_config(
        {
            "name": "x",
            "shots": "5,1%",
            "budget": "90m",
            "set": ["depth=4", "flip=false"],
            "data_dir": "data",
            "alpha": 0.01,
        }
    )
    path = tmp_path / "config.yaml"
    path.write_text(to_yaml(config))
    assert make_config(read_yaml(path)) == config
    assert config.shots == ("5", "1%")
    assert config.budget == 5400
    assert config.set == {"depth": 4, "flip": False}


def test_keys_of_a_file_may_be_written_like_flags(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("--certify-images: 7\ntuning-votes: 60\n")
    assert read_yaml(path) == {"certify_images": 7, "tuning_votes": 60}


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("1.5m", 90), ("2h", 7200), ("1d", 86400)]
)
def test_durations(text: str, seconds: float) -> None:
    assert make_config({"name": "x", "budget": text}).budget == seconds


@pytest.mark.parametrize("shots", ["0", "-1", "ten", "101%", "", "1e3"])
def test_shots_are_a_positive_number_or_a_percentage(shots: str) -> None:
    with pytest.raises(ConfigError, match="--shots"):
        make_config({"name": "x", "shots": shots})


def test_most_specific_space_is_chosen() -> None:
    config = make_config({"name": "x"})
    assert choose_space(config, "digits", "1", 0.001).name == "digits"
    assert choose_space(config, "digits", "10", 0.07).name == "digits-10pct"
    assert choose_space(config, "cifar10", "50", 0.01).name == "cifar10-1pct"
    assert choose_space(config, "cifar10", "10%", 0.1).name == "cifar10-10pct"
    assert choose_space(config, "folder", "10", 0.01).name == "decrop"


def test_fixed_hyperparameter_is_no_longer_varied() -> None:
    config = make_config({"name": "x", "set": ["w_mmd=0.5", "epochs=3"]})
    space = choose_space(config, "digits", "10", 0.07)
    assert "w_mmd" not in space.parameters
    assert space.fixed["w_mmd"] == 0.5
    assert space.fixed["epochs"] == 3


def test_range_that_leaves_the_valid_values_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "wide.yaml"
    path.write_text("name: wide\nextends: digits\nparameters: {mix: {low: 0.2, high: 1.5}}\n")
    with pytest.raises(ConfigError, match=r"mix: .*1\.5"):
        choose_space(make_config({"name": "x", "space": str(path)}), "digits", "10", 0.07)


def test_setting_names_are_folder_names() -> None:
    assert setting_name("digits", "10") == "digits-10shot"
    assert setting_name("folder", "5%") == "folder-5pct"


def test_help_shows_the_defaults_that_hold() -> None:
    shown = {p.name.rstrip("_"): p.default for p in get_command(app).params if p.name}
    fields = make_config({"name": "x"}).model_dump().keys() & shown.keys() - {"name", "set"}
    given = {field: shown[field] for field in fields if shown[field] is not None}
    assert make_config({"name": "x"} | given) == make_config({"name": "x"})
    assert not any(
        make_config({"name": "x"}).model_dump()[field] for field in fields - given.keys()
    )
