import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.stats import norm
from torch import Tensor, nn

from trainables import smoothing
from trainables.errors import InputError
from trainables.models.denoisers import DnCNN
from trainables.smoothing import SmoothedClassifier
from trainables.smoothing.bounds import lower_bound
from trainables.smoothing.counting import total_votes
from trainables.smoothing.noise import Noise, plan_blocks
from trainables.smoothing.procedures import Adaptive, Fixed
from trainables.smoothing.quantised import allowance
from trainables.smoothing.smoothed import CONFIG, ExportConfig, export_config
from trainables.weights.checkpoint import weights_hash
from trainables.weights.denoiser_file import WEIGHTS, denoiser_bytes

torch.set_num_threads(1)
IMAGE = torch.full((1, 4, 4), 0.5)


class Constant(nn.Module):
    """Always class 2 of three."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.tensor([0.0, 1.0, 2.0]).expand(len(images), 3)


class Coin(nn.Module):
    """Class 1 where the first pixel exceeds one half: a fair coin under noise."""

    def forward(self, images: Tensor) -> Tensor:
        side = images[:, 0, 0, 0] - 0.5
        return torch.stack((-side, side), dim=1)


def trained_denoiser() -> DnCNN:
    denoiser = DnCNN(1, 3, 4)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in denoiser.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
        denoiser.train()(torch.rand(8, 1, 4, 4, generator=generator))
    return denoiser.eval()


def linear_classifier() -> nn.Sequential:
    linear = nn.Linear(16, 3)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        linear.weight.copy_(torch.randn(3, 16, generator=generator))
        linear.bias.zero_()
    return nn.Sequential(nn.Flatten(), linear).eval()


def config(**changes: Any) -> ExportConfig:
    values = {
        "sigma": 0.25, "n0": 50, "n": 1000,
        "alpha": 0.001, "num_classes": 3, "image_shape": (1, 4, 4), "classifier_hash": "0" * 64,
        "procedure": "fixed",
    }  # fmt: skip
    return ExportConfig.model_validate(values | changes)


@pytest.fixture
def export(tmp_path: Path) -> Path:
    made = export_config(
        linear_classifier(), IMAGE, 3, Noise(0.25), Fixed(50, 1000, 0.001), "float32"
    )
    (tmp_path / CONFIG).write_text(made.text)
    (tmp_path / WEIGHTS).write_bytes(denoiser_bytes(trained_denoiser()))
    return tmp_path


def refusal(folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        SmoothedClassifier.load(folder, linear_classifier())
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_export_certifies_like_the_classifier_it_was_made_from(export: Path) -> None:
    original = SmoothedClassifier(nn.Sequential(trained_denoiser(), linear_classifier()), config())
    loaded = SmoothedClassifier.load(str(export), linear_classifier())
    for value in (0.2, 0.5, 0.9):
        image = torch.full((1, 4, 4), value)
        assert loaded.certify(image) == original.certify(image)
        assert loaded.predict(image) == original.predict(image)


def test_the_exported_configuration_describes_image_numbers_and_classifier(export: Path) -> None:
    assert json.loads((export / CONFIG).read_text()) == {
        "schema_version": 5, "origin": "file", "trial": None, "pixel_steps": 0,
        "procedure": "fixed", "tolerance": 0.02, "radii": [],
        "sigma": 0.25, "n0": 50, "n": 1000, "alpha": 0.001, "num_classes": 3,
        "image_shape": [1, 4, 4], "precision": "float32",
        "classifier_hash": weights_hash(linear_classifier()),
    }  # fmt: skip


def test_an_export_of_the_version_before_does_not_know_its_origin(export: Path) -> None:
    known = json.loads((export / CONFIG).read_text())
    del known["origin"], known["trial"]
    (export / CONFIG).write_text(json.dumps(known | {"schema_version": 4}))
    loaded = SmoothedClassifier.load(export, linear_classifier()).config
    assert (loaded.origin, loaded.trial) == ("file", None)


def test_the_procedure_of_the_export_decides_how_many_votes_are_cast(export: Path) -> None:
    votes = {}
    procedure = Adaptive(50, 5000, 0.001, (0.0, 0.1))
    adaptive = export_config(linear_classifier(), IMAGE, 3, Noise(0.25), procedure, "float32").text
    for name, text in {
        "adaptive": adaptive,
        "tolerance": adaptive.replace('"adaptive"', '"tolerance"'),
        "fixed": adaptive.replace('"adaptive"', '"fixed"'),
    }.items():
        (export / CONFIG).write_text(text)
        proof = SmoothedClassifier.load(export, Constant()).certify(IMAGE)
        assert (proof.procedure, proof.predicted) == (name, 2)
        votes[name] = proof.votes
    assert votes["adaptive"] < votes["tolerance"] < votes["fixed"] == 5050


def test_the_denoiser_stands_in_front_of_the_classifier(export: Path) -> None:
    loaded = SmoothedClassifier.load(export, linear_classifier())
    images = torch.rand(3, 1, 4, 4)
    expected = linear_classifier()(trained_denoiser()(images))
    assert torch.allclose(loaded.model(images), expected, atol=1e-5)


def test_a_classifier_in_training_mode_is_put_in_evaluation_mode(export: Path) -> None:
    classifier = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(16), nn.Linear(16, 3)).train()
    loaded = SmoothedClassifier.load(export, classifier)
    before = weights_hash(loaded.model)
    loaded.certify(IMAGE)
    assert weights_hash(loaded.model) == before
    assert not any(module.training for module in loaded.model.modules())


def test_the_seed_decides_the_votes_and_every_call_draws_afresh(export: Path) -> None:
    image = torch.rand((1, 4, 4), generator=torch.Generator().manual_seed(6))
    votes = []
    for seed in (0, 0, 1):
        loaded = SmoothedClassifier.load(export, linear_classifier(), seed=seed)
        votes.append([loaded.certify(image, n=20_000).votes_top for _ in range(2)])
    assert votes[0] == votes[1]
    assert votes[0] != votes[2]
    assert votes[0][0] != votes[0][1]


@pytest.mark.parametrize(("n", "alpha"), [(1000, 0.001), (5000, 1e-6)])
def test_a_robust_classifier_gets_its_class_and_the_radius_of_unanimous_votes(
    n: int, alpha: float
) -> None:
    proof = SmoothedClassifier(Constant(), config()).certify(IMAGE, n=n, alpha=alpha)
    assert (proof.predicted, proof.votes_top, proof.n, proof.n0) == (2, n, n, 50)
    assert proof.p_lower == lower_bound(n, n, alpha)
    assert proof.radius == pytest.approx(0.25 * norm.ppf(alpha ** (1 / n)))


def test_a_robust_classifier_predicts_its_class() -> None:
    assert SmoothedClassifier(Constant(), config()).predict(IMAGE) == 2


def test_a_coin_flip_is_neither_predicted_nor_certified() -> None:
    smoothed = SmoothedClassifier(Coin(), config(num_classes=2))
    assert [smoothed.predict(IMAGE) for _ in range(20)] == [-1] * 20
    proofs = [smoothed.certify(IMAGE) for _ in range(20)]
    assert {(proof.predicted, proof.radius) for proof in proofs} == {(-1, 0.0)}


@pytest.mark.parametrize(("value", "expected"), [(0.9, 1), (0.1, 0)])
def test_a_biased_coin_is_predicted(value: float, expected: int) -> None:
    image = torch.full((1, 4, 4), value)
    assert SmoothedClassifier(Coin(), config(num_classes=2)).predict(image) == expected


def test_prediction_at_a_looser_level_needs_fewer_votes() -> None:
    smoothed = SmoothedClassifier(Constant(), config())
    assert smoothed.predict(IMAGE, n=5, alpha=0.001) == -1
    assert smoothed.predict(IMAGE, n=5, alpha=0.1) == 2


def test_a_classifier_without_a_valid_vote_is_not_predicted() -> None:
    class Silent(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return torch.full((len(images), 3), torch.nan)

    smoothed = SmoothedClassifier(Silent(), config())
    assert smoothed.predict(IMAGE) == -1
    assert smoothed.certify(IMAGE).predicted == -1


@pytest.mark.parametrize("shape", [(4, 4), (3, 4, 4), (1, 4, 5), (1, 1, 4, 4)])
def test_an_image_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    smoothed = SmoothedClassifier(Constant(), config())
    for act in (smoothed.certify, smoothed.predict):
        with pytest.raises(ValueError, match=r"shape .* but \(1, 4, 4\) is certified"):
            act(torch.zeros(shape))


@pytest.mark.parametrize("pixel", [-0.01, 1.01, 255.0, float("nan"), float("inf")])
def test_an_image_outside_the_pixel_range_is_refused(pixel: float) -> None:
    image = IMAGE.clone()
    image[0, 1, 2] = pixel
    smoothed = SmoothedClassifier(Constant(), config())
    for act in (smoothed.certify, smoothed.predict):
        with pytest.raises(ValueError, match=r"outside \[0, 1\]"):
            act(image)


def test_an_export_with_quantised_noise_runs_it_and_refuses_images_off_its_grid(
    export: Path,
) -> None:
    image = torch.full((1, 4, 4), 0.6)
    gaussian = SmoothedClassifier.load(export, linear_classifier()).certify(image)
    procedure = Fixed(50, 1000, 0.001)
    made = export_config(linear_classifier(), IMAGE, 3, Noise(0.25, 255), procedure, "float32")
    (export / CONFIG).write_text(made.text)
    smoothed = SmoothedClassifier.load(export, linear_classifier())
    proof = smoothed.certify(image)
    assert smoothed.config.pixel_steps == 255
    blocks = plan_blocks(1000, 0, 1, "estimate")
    votes = total_votes(smoothed.model, image, Noise(0.25, 255), blocks)
    assert proof.votes_top == max(votes) != gaussian.votes_top
    taken = allowance(Noise(0.25, 255), (1, 4, 4))
    assert proof.p_lower == lower_bound(proof.votes_top, 1000, 0.001) - taken
    assert 1e-12 < taken < 1e-11
    for act in (smoothed.certify, smoothed.predict):
        with pytest.raises(ValueError, match="not multiples of 1/255"):
            act(torch.full((1, 4, 4), 0.5))


@pytest.mark.parametrize(
    "numbers",
    [{"alpha": 1.0}, {"alpha": -0.1}, {"alpha": 0.0}, {"n": -5}, {"n": 0}, {"n0": -5}, {"n0": 0}],
)
def test_numbers_out_of_range_are_refused_instead_of_replaced(numbers: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        SmoothedClassifier(Constant(), config()).certify(IMAGE, **numbers)


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
def test_an_incomplete_export_is_refused(export: Path, name: str) -> None:
    (export / name).unlink()
    assert str(export) in refusal(export)


def test_a_folder_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    assert "nowhere" in refusal(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b'{"sigma": 0.25}', b"\xff\xfe\x00"],
    ids=["empty", "half", "list", "incomplete", "binary"],
)  # fmt: skip
def test_a_damaged_configuration_is_refused(export: Path, data: bytes) -> None:
    (export / CONFIG).write_bytes(data)
    assert str(export) in refusal(export)


@pytest.mark.parametrize(
    "change",
    [{"unknown": 1}, {"sigma": None}, {"image_shape": [4, 4]}, {"image_shape": [3, 4, 4]},
     {"schema_version": 1}, {"procedure": "adaptive"}],
    ids=str,
)  # fmt: skip
def test_a_configuration_that_does_not_fit_is_refused(
    export: Path, change: dict[str, object]
) -> None:
    values = json.loads((export / CONFIG).read_text())
    (export / CONFIG).write_text(json.dumps(values | change))
    refusal(export)


@pytest.mark.parametrize("kept", [0, 10, 200, -1])
def test_damaged_weights_are_refused(export: Path, kept: int) -> None:
    (export / WEIGHTS).write_bytes((export / WEIGHTS).read_bytes()[:kept])
    assert "damaged" in refusal(export)


def test_the_index_of_the_package_names_every_file() -> None:
    files = {path.name for path in Path(smoothing.__file__).parent.glob("*.py")} - {"__init__.py"}
    assert set(re.findall(r"^    (\w+\.py) ", str(smoothing.__doc__), re.MULTILINE)) == files
