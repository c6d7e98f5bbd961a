import math
from typing import Any

import pytest
from pydantic import ValidationError

from trainables.decrop.config import BASELINES, DecropConfig


def test_the_defaults_are_the_published_code_as_it_runs() -> None:
    assert DecropConfig().model_dump() == {
        "sigma": 0.25, "w_label": 1, "w_mse": 0, "w_cosine": 4, "w_mmd": 4,
        "reversal_strength": 2, "discriminator_start": 0.75, "discriminator_learning_rate": 1e-5,
        "normalised_features": True,
        "attack_radius": 8 / 255, "step_size": 2 / 255, "attack_steps": 20, "mix": 0.8,
        "interpolation_steps": 1, "interpolation_learning_rate": 0.001, "eight_bits": "truncated",
        "crop_padding": 4, "flip": True, "paired_augmentation": False,
        "denoiser": "dncnn", "depth": 17, "width": 64,
        "memory_blocks": 3, "residual_blocks": 6, "levels": 3,
        "norm_eps": 1e-4, "norm_momentum": 0.95, "joined_batch_norm": False,
        "epochs": 1200, "stages": 2, "batch_size": 200, "equal_batches": False,
        "learning_rate": 1e-3, "weight_decay": 1e-4,
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
        ("ema_decay", math.nan), ("eight_bits", 8),
        ("eight_bits", True), ("eight_bits", "floor"), ("stages", 0), ("stages", 3),
        ("norm_eps", 0), ("norm_eps", 1.1), ("norm_momentum", 0), ("norm_momentum", 1.1),
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
    assert config.stages == 1
    assert not config.uses_generated_samples
    assert list(BASELINES) == ["label_consistency", "mse"]


@pytest.mark.parametrize(
    ("stages", "epochs", "expected"),
    [
        (1, 5, [range(5)]), (2, 1200, [range(600), range(600, 1200)]), (2, 1, [range(1)]),
        (2, 5, [range(3), range(3, 5)]), (2, 2, [range(1), range(1, 2)]),
    ],
)  # fmt: skip
def test_stages_share_the_epochs(stages: int, epochs: int, expected: list[range]) -> None:
    config = DecropConfig.model_validate({"stages": stages, "epochs": epochs})
    found = [config.stage(epoch) for epoch in range(epochs)]
    assert found == [stage for stage in expected for _ in stage]


@pytest.mark.parametrize(
    ("changes", "epoch", "expected"),
    [
        ({}, 599.99, None), ({}, 600, 0), ({}, 900, 0.5), ({"discriminator_start": 0}, 599, None),
        ({"stages": 1}, 899.99, None), ({"stages": 1}, 900, 0), ({"stages": 1}, 1050, 0.5),
        ({"stages": 1, "discriminator_start": 0}, 300, 0.25), ({"epochs": 1}, 0.5, None),
        ({"stages": 1, "discriminator_start": 1}, 1199.9, None),
        ({"reversal_strength": 0}, 900, None),
    ],
)  # fmt: skip
def test_the_discriminator_has_the_second_stage_or_the_end_of_the_only_one(
    changes: dict[str, Any], epoch: float, expected: float | None
) -> None:
    found = DecropConfig.model_validate(changes).discriminator_progress(epoch)
    assert found == (None if expected is None else pytest.approx(expected))
