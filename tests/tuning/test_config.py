from pathlib import Path

import pytest

from trainables.data.shots import ShotCount
from tuning.config import config_hash, make_config, read_yaml, setting_name, to_yaml
from tuning.errors import ConfigError
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
    assert config.shots == (ShotCount("5"), ShotCount("1%"))
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


@pytest.mark.parametrize("shots", ["0", "-1", "ten", "101%", "", "1e3", "5,", [5, 0], 0])
def test_shots_are_positive_numbers_or_percentages(shots: object) -> None:
    with pytest.raises(ConfigError, match=r"^--shots: .* is neither a number above 0 nor a perc"):
        make_config({"name": "x", "shots": shots})


def test_most_specific_space_is_chosen() -> None:
    config = make_config({"name": "x"})
    assert choose_space(config, "digits", ShotCount("1"), 0.001).name == "digits"
    assert choose_space(config, "digits", ShotCount("10"), 0.07).name == "digits-10pct"
    assert choose_space(config, "cifar10", ShotCount("50"), 0.01).name == "cifar10-1pct"
    assert choose_space(config, "cifar10", ShotCount("10%"), 0.1).name == "cifar10-10pct"
    assert choose_space(config, "folder", ShotCount("10"), 0.01).name == "decrop"


def test_fixed_hyperparameter_is_no_longer_varied() -> None:
    config = make_config({"name": "x", "set": ["w_mmd=0.5", "epochs=3"]})
    space = choose_space(config, "digits", ShotCount("10"), 0.07)
    assert "w_mmd" not in space.parameters
    assert space.fixed["w_mmd"] == 0.5
    assert space.fixed["epochs"] == 3


def test_range_that_leaves_the_valid_values_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "wide.yaml"
    path.write_text("name: wide\nextends: digits\nparameters: {mix: {low: 0.2, high: 1.5}}\n")
    with pytest.raises(ConfigError, match=r"mix: .*1\.5"):
        choose_space(
            make_config({"name": "x", "space": str(path)}), "digits", ShotCount("10"), 0.07
        )


def test_setting_names_are_folder_names() -> None:
    assert setting_name("digits", ShotCount("10")) == "digits-10shot"
    assert setting_name("folder", ShotCount("5%")) == "folder-5pct"


# What runs before this test's commit recorded as theirs.
@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"name": "x"}, "40c6c90ea304ef4337e5511b1e659138e9c2e390baefa43b143e0f5d67fecc9a"),
        (
            {
                "name": "x",
                "dataset": "digits,svhn",
                "data_dir": "data",
                "shots": [5, "10%"],
                "classifier": "c.pt",
                "mean": "0.5",
                "std": [0.2],
                "init_denoiser": "d",
                "set": ["depth=4", "flip=false"],
                "objective": "pareto",
                "budget": "90m",
                "alpha": 0.01,
                "radii": "0.25,0.5",
                "cluster": "auto",
            },
            "92a3c76150c0ad22986b4d0fff5667ecd659f5df2e2224d0cd3b0b4a9cd2d673",
        ),
    ],
)
def test_the_same_configuration_keeps_its_hash(values: dict[str, object], expected: str) -> None:
    assert config_hash(make_config(values)) == expected


def test_the_form_of_the_images_is_stored_and_read_back(tmp_path: Path) -> None:
    given = {"image_size": 224, "resize_mode": "squash", "resize_size": "248", "channels": "3"}
    config = make_config({"name": "x", "dataset": "folder", "data_dir": "d", **given})
    path = tmp_path / "config.yaml"
    for written in (config, make_config({"name": "x"})):
        path.write_text(to_yaml(written))
        assert make_config(read_yaml(path)) == written
    assert config_hash(config) != config_hash(config.model_copy(update={"image_size": 225}))


def test_a_pareto_search_prunes_nothing() -> None:
    assert make_config({"name": "x"}).scheduler == "asha"
    assert make_config({"name": "x", "objective": "pareto"}).scheduler == "none"
    chosen = {"name": "x", "objective": "pareto", "scheduler": "none", "min_accuracy": 0.9}
    assert make_config(chosen).scheduler == "none"


def test_the_order_of_classes_is_a_list_or_the_lines_of_a_file(tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("red, dark\n\nblue\n")
    assert make_config({"name": "x", "class_order": "b,a"}).class_order == ("b", "a")
    from_file = make_config({"name": "x", "class_order": str(names)})
    assert from_file.class_order == ("red, dark", "blue")
    # A job elsewhere does not have the file.
    assert "red, dark" in to_yaml(from_file)
