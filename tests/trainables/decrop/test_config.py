import math

import pytest
from pydantic import ValidationError

from trainables.decrop.config import BASELINES, DecropConfig


def test_the_defaults_are_the_published_recipe() -> None:
    assert DecropConfig().model_dump() == {
        "sigma": 0.25, "w_label": 1, "w_mse": 0, "w_cosine": 4, "w_mmd": 4,
        "reversal_strength": 2, "discriminator_start": 0.75, "discriminator_learning_rate": 1e-5,
        "attack_radius": 8 / 255, "step_size": 2 / 255, "attack_steps": 20, "mix": 0.8,
        "interpolation_steps": 1, "interpolation_learning_rate": 0.001, "eight_bit_samples": True,
        "crop_padding": 4, "flip": True, "paired_augmentation": False,
        "denoiser": "dncnn", "depth": 17, "width": 64,
        "memory_blocks": 3, "residual_blocks": 6, "levels": 3,
        "epochs": 600, "batch_size": 200, "learning_rate": 1e-3, "weight_decay": 1e-4,
        "schedule": "step", "lr_decay": 0.1, "ema_decay": 0,
    }  # fmt: skip


def test_a_configuration_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        DecropConfig().sigma = 0.5  # type: ignore[misc]


def test_an_unknown_hyperparameter_is_refused() -> None:
    with pytest.raises(ValidationError, match="alpha"):
        DecropConfig(alpha=1)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sigma", 0), ("sigma", -0.1), ("sigma", math.nan), ("sigma", math.inf),
        ("w_label", -1), ("w_mmd", math.nan), ("w_cosine", math.inf), ("mix", 1.01),
        ("mix", -0.01), ("step_size", 0), ("attack_steps", 0), ("interpolation_steps", 0),
        ("discriminator_start", 1.1), ("batch_size", 1), ("depth", 2), ("width", 0),
        ("epochs", 0), ("learning_rate", 0), ("lr_decay", 0), ("crop_padding", -1),
        ("interpolation_steps", 1.5), ("attack_radius", "wide"),
        ("denoiser", "resnet"), ("denoiser", "DnCNN"), ("memory_blocks", 0), ("residual_blocks", 0),
        ("levels", 0), ("levels", 7), ("schedule", "linear"), ("ema_decay", 1), ("ema_decay", -0.1),
        ("ema_decay", math.nan), ("eight_bit_samples", 8),
    ],
)  # fmt: skip
def test_a_value_out_of_range_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ValidationError) as caught:
        DecropConfig.model_validate({name: value})
    assert [error["loc"] for error in caught.value.errors()] == [(name,)]


def test_a_configuration_without_any_loss_is_refused() -> None:
    with pytest.raises(ValidationError, match="every loss weight is 0"):
        DecropConfig(w_label=0, w_mse=0, w_cosine=0, w_mmd=0)


@pytest.mark.parametrize("name", ["w_label", "w_mse", "w_cosine", "w_mmd"])
def test_a_single_loss_is_enough(name: str) -> None:
    weights = {"w_label": 0.0, "w_mse": 0.0, "w_cosine": 0.0, "w_mmd": 0.0, name: 0.5}
    config = DecropConfig.model_validate(weights)
    assert config.uses_generated_samples == (name in {"w_cosine", "w_mmd"})


@pytest.mark.parametrize(("baseline", "loss"), [("label_consistency", "w_label"), ("mse", "w_mse")])
def test_a_baseline_keeps_one_loss_and_needs_no_generated_samples(baseline: str, loss: str) -> None:
    config = DecropConfig.model_validate(BASELINES[baseline])
    numbers = config.model_dump()
    weights = {n: v for n, v in numbers.items() if n.startswith("w_") or n == "reversal_strength"}
    assert {name: value for name, value in weights.items() if value} == {loss: 1}
    assert not config.uses_generated_samples
    assert list(BASELINES) == ["label_consistency", "mse"]
