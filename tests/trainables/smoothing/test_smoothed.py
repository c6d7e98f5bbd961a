import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.stats import binomtest, norm
from torch import Tensor, nn

from tests.support.exports import (
    SHAPE,
    Constant,
    linear_classifier,
    rewrite_config,
    trained_denoiser,
    write_export,
)
from trainables import smoothing
from trainables.smoothing import SmoothedClassifier
from trainables.smoothing.bounds import lower_bound
from trainables.smoothing.counting import total_votes
from trainables.smoothing.export import ExportConfig
from trainables.smoothing.noise import Noise, plan_blocks
from trainables.smoothing.procedures import Adaptive
from trainables.smoothing.quantised import allowance
from trainables.weights.checkpoint import weights_hash

torch.set_num_threads(1)
IMAGE = torch.full((1, 4, 4), 0.5)


class Coin(nn.Module):
    """Class 1 where the first pixel exceeds one half: a fair coin under noise."""

    def forward(self, images: Tensor) -> Tensor:
        side = images[:, 0, 0, 0] - 0.5
        return torch.stack((-side, side), dim=1)


def config(**changes: Any) -> ExportConfig:
    values = {
        "sigma": 0.25, "n0": 50, "n": 1000,
        "alpha": 0.001, "num_classes": 3, "image_shape": SHAPE, "procedure": "fixed",
        "classifier_hash": "0" * 64, "denoiser_hash": "0" * 64, "probes_hash": "0" * 64,
    }  # fmt: skip
    return ExportConfig.model_validate(values | changes)


@pytest.fixture
def export(tmp_path: Path) -> Path:
    return write_export(tmp_path / "export")


def test_an_export_certifies_like_the_classifier_it_was_made_from(export: Path) -> None:
    model = nn.Sequential(trained_denoiser(), linear_classifier())
    original = SmoothedClassifier(model, config(), seed=5)
    loaded = SmoothedClassifier.load(str(export), linear_classifier(), seed=5)
    for value in (0.2, 0.5, 0.9):
        image = torch.full((1, 4, 4), value)
        assert loaded.certify(image) == original.certify(image)
        assert loaded.predict(image) == original.predict(image)


def test_the_procedure_of_the_export_decides_how_many_votes_are_cast(tmp_path: Path) -> None:
    votes = {}
    procedure = Adaptive(50, 5000, 0.001, (0.0, 0.1))
    export = write_export(tmp_path / "export", Constant(), procedure=procedure)
    for name in ("adaptive", "tolerance", "fixed"):
        rewrite_config(export, lambda values: values.update(procedure=name))  # noqa: B023
        proof = SmoothedClassifier.load(export, Constant()).certify(IMAGE)
        assert (proof.procedure, proof.predicted) == (name, 2)
        votes[name] = proof.votes
    assert votes["adaptive"] < votes["tolerance"] < votes["fixed"] == 5050


def test_the_denoiser_stands_in_front_of_the_classifier(export: Path) -> None:
    loaded = SmoothedClassifier.load(export, linear_classifier())
    images = torch.rand(3, 1, 4, 4)
    expected = linear_classifier()(trained_denoiser()(images))
    assert torch.allclose(loaded.model(images), expected, atol=1e-5)


def test_a_classifier_in_training_mode_is_put_in_evaluation_mode(tmp_path: Path) -> None:
    classifier = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(16), nn.Linear(16, 3)).eval()
    export = write_export(tmp_path / "export", classifier)
    loaded = SmoothedClassifier.load(export, classifier.train())
    before = weights_hash(loaded.model)
    loaded.certify(IMAGE)
    assert weights_hash(loaded.model) == before
    assert not any(module.training for module in loaded.model.modules())


def votes_of(export: Path, seed: int | None) -> tuple[list[int], int]:
    """The votes of two certificates of an image, and the seed that they can be repeated with."""
    image = torch.rand((1, 4, 4), generator=torch.Generator().manual_seed(6))
    loaded = SmoothedClassifier.load(export, linear_classifier(), seed=seed)
    return [loaded.certify(image, n=20_000).votes_top for _ in range(2)], loaded.seed


def test_the_seed_decides_the_votes_and_every_call_draws_afresh(export: Path) -> None:
    votes = [votes_of(export, seed)[0] for seed in (0, 0, 1)]
    assert votes[0] == votes[1]
    assert votes[0] != votes[2]
    assert votes[0][0] != votes[0][1]


def test_without_a_seed_nobody_knows_the_noise_in_advance_but_it_can_be_repeated(
    export: Path,
) -> None:
    torch.manual_seed(0)
    one, seed = votes_of(export, None)
    torch.manual_seed(0)
    other, other_seed = votes_of(export, None)
    assert seed != other_seed
    assert one != other
    assert votes_of(export, seed)[0] == one
    assert max(seed, other_seed) > 2**32


@pytest.mark.parametrize("threads", [1, 2])
def test_votes_are_cast_by_as_many_threads_as_wanted_and_others_keep_theirs(
    export: Path, threads: int
) -> None:
    seen = []
    classifier = linear_classifier()
    classifier.register_forward_pre_hook(lambda *_: seen.append(torch.get_num_threads()))
    torch.set_num_threads(2)
    try:
        loaded = SmoothedClassifier.load(export, classifier, threads=threads)
        loaded.certify(IMAGE)
        loaded.predict(IMAGE)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert set(seen) == {threads}


def test_nothing_slow_is_imported_to_certify_an_image(export: Path) -> None:
    """In a process of its own, whose start-up would otherwise take as long as its votes."""
    script = (
        "import sys, torch\n"
        "before = set(sys.modules)\n"
        "from tests.support.exports import linear_classifier\n"
        "from trainables.smoothing import SmoothedClassifier\n"
        "smoothed = SmoothedClassifier.load(sys.argv[1], linear_classifier())\n"
        "image = torch.rand(1, 4, 4)\n"
        "smoothed.certify(image), smoothed.predict(image)\n"
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before})\n"
        "print(*(name for name in sys.modules if name.startswith('scipy.stats')))\n"
    )
    root = Path(__file__).parents[3]
    command = [sys.executable, "-c", script, str(export)]
    done = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True)
    packages, stats = done.stdout.splitlines()
    slow = {"sympy", "torchvision", "sklearn", "matplotlib", "pandas", "ray", "requests", "pyarrow"}
    assert not slow & set(packages.split())
    assert stats == ""


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
    # Of a thousand coins, one looks biased.
    smoothed = SmoothedClassifier(Coin(), config(num_classes=2), seed=0)
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


class Counted(SmoothedClassifier):
    """One whose votes are given."""

    def __init__(self, votes: list[int]) -> None:
        super().__init__(Constant(), config())
        self.votes = votes

    def _votes(self, image: Tensor, request: object) -> list[int]:
        return self.votes


@pytest.mark.parametrize("alpha", [0.001, 0.05, 0.5])
def test_a_class_is_predicted_when_a_two_sided_test_of_the_two_largest_says_so(
    alpha: float,
) -> None:
    for total in (1, 2, 7, 40, 101):
        for first in range((total + 1) // 2, total + 1):
            votes = [0, total - first, first]
            told = binomtest(first, total, 0.5).pvalue <= alpha
            assert Counted(votes).predict(IMAGE, alpha=alpha) == (2 if told else -1)


def test_a_classifier_without_a_valid_vote_is_not_predicted() -> None:
    class Silent(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return torch.full((len(images), 3), torch.nan)

    smoothed = SmoothedClassifier(Silent(), config())
    assert smoothed.predict(IMAGE) == -1
    assert smoothed.certify(IMAGE).predicted == -1


@pytest.mark.parametrize("shape", [(4, 4), (3, 4, 4), (1, 4, 5), (1, 1, 4, 5), (1, 1, 1, 4, 4)])
def test_an_image_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    smoothed = SmoothedClassifier(Constant(), config())
    for act in (smoothed.certify, smoothed.predict):
        with pytest.raises(ValueError, match=r"shape .* but \(1, 4, 4\) is certified"):
            act(torch.zeros(shape))


@pytest.mark.parametrize(
    ("pixel", "said"),
    [
        *((value, r"outside \[0, 1\]") for value in (-0.01, 1.01, 255.0)),
        *((float(value), "NaN or infinite") for value in ("nan", "inf")),
    ],
)
def test_an_image_outside_the_pixel_range_is_refused(pixel: float, said: str) -> None:
    image = IMAGE.clone()
    image[0, 1, 2] = pixel
    smoothed = SmoothedClassifier(Constant(), config())
    for act in (smoothed.certify, smoothed.predict):
        with pytest.raises(ValueError, match=said):
            act(image)


def test_an_export_with_quantised_noise_runs_it_and_refuses_images_off_its_grid(
    tmp_path: Path,
) -> None:
    image = torch.full((1, 4, 4), 0.6)
    export = write_export(tmp_path / "export", noise=Noise(0.25, 255))
    smoothed = SmoothedClassifier.load(export, linear_classifier(), seed=0)
    proof = smoothed.certify(image)
    assert smoothed.config.pixel_steps == 255
    blocks = plan_blocks(1000, 0, 1, "estimate")
    votes = total_votes(smoothed.model, image, Noise(0.25, 255), blocks)
    gaussian = total_votes(smoothed.model, image, Noise(0.25), blocks)
    assert proof.votes_top == max(votes) != max(gaussian)
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


def test_the_index_of_the_package_names_every_file() -> None:
    files = {path.name for path in Path(smoothing.__file__).parent.glob("*.py")} - {"__init__.py"}
    assert set(re.findall(r"^    (\w+\.py) ", str(smoothing.__doc__), re.MULTILINE)) == files


@pytest.mark.parametrize(
    "image",
    [[[[0.5]]], IMAGE.to(torch.uint8), IMAGE.bool(), IMAGE.numpy().astype("int64"), None, "a.png"],
    ids=["numbers", "uint8", "bool", "int64", "None", "name"],
)
def test_what_is_no_image_is_refused(image: Any) -> None:
    smoothed = SmoothedClassifier(Constant(), config())
    for act in (smoothed.certify, smoothed.predict, smoothed):
        with pytest.raises(TypeError, match="not a tensor or array of floats"):
            act(image)


def test_a_classifier_that_is_no_module_and_impossible_numbers_are_refused(tmp_path: Path) -> None:
    export = write_export(tmp_path / "export")
    with pytest.raises(TypeError, match=r"classifier is dict, not a torch\.nn\.Module"):
        SmoothedClassifier.load(export, {"state_dict": {}})  # type: ignore[arg-type]
    for threads in (0, -1, 1.5):
        with pytest.raises(ValueError, match="threads must be a positive whole number"):
            SmoothedClassifier(Constant(), config(), threads=threads)  # type: ignore[arg-type]
    for seed in ("a", 1.5):
        with pytest.raises(TypeError):
            SmoothedClassifier(Constant(), config(), seed=seed)  # type: ignore[arg-type]
