from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.support.digits import first_digits
from tests.support.raising import Raising
from trainables.black_box.queries import BlackBox, Queries, QueryBudgetSpent
from trainables.black_box.surrogate import EFFORT, Effort, Surrogate, _samples, _untrained, distill
from trainables.data.datasets import Dataset
from trainables.decrop.generation import Attack, boundary_samples
from trainables.errors import InputError
from trainables.models.classifiers import BaseClassifier
from trainables.pretraining.cached import cached_classifier
from trainables.weights.checkpoint import weights_hash

torch.set_num_threads(1)
SIGMAS = (0.12, 0.5)


class Brightness(nn.Module):
    """Three classes by brightness; it cannot be differentiated, and counts and may fail."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(20.0))
        self.sent: list[Tensor] = []
        self.fail_at = 10**9

    def forward(self, images: Tensor) -> Tensor:
        self.sent.append(images.detach().clone())
        if sum(map(len, self.sent)) > self.fail_at:
            raise KeyboardInterrupt
        mean = images.mean(dim=(1, 2, 3)) * self.scale
        logits: Tensor = Raising.apply(torch.stack((0 * mean, mean - 9, 2 * mean - 20), dim=1))
        return logits


class Arbitrary(nn.Module):
    """A label for each image that no other image tells anything about."""

    def forward(self, images: Tensor) -> Tensor:
        mixed = (images.flatten(1) * torch.arange(images[0].numel()).sin() * 1e5).sum(dim=1)
        return F.one_hot(mixed.long() % 10, 10).float()


@pytest.fixture
def images() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    brightness = torch.linspace(0.1, 0.9, 8).view(8, 1, 1, 1)
    return (brightness + 0.1 * torch.randn((8, 1, 8, 8), generator=generator)).clamp(0, 1)


@pytest.fixture
def queries(tmp_path: Path) -> Callable[..., Queries]:
    def make(classifier: nn.Module, budget: int, name: str = "q") -> Queries:
        return Queries(classifier, tmp_path / f"{name}.db", budget)

    return make


QUICK = Effort(rounds=2, epochs=2)


def quick(queries: Queries, images: Tensor, seed: int = 0, effort: Effort = QUICK) -> Surrogate:
    return distill(queries, images, sigmas=SIGMAS, seed=seed, effort=effort)


@pytest.fixture(scope="module")
def digits_classifier(digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> BaseClassifier:
    cache = tmp_path_factory.mktemp("c")
    return cached_classifier(first_digits(digits, 300), "digits_cnn", cache, lambda _: None)


@pytest.mark.parametrize("labels_only", [False, True])
def test_a_surrogate_of_few_digits_agrees_on_digits_it_never_saw(
    digits: Dataset,
    digits_classifier: BaseClassifier,
    queries: Callable[..., Queries],
    labels_only: bool,
) -> None:
    asked = queries(BlackBox(digits_classifier, labels_only=labels_only), 1500)
    surrogate = distill(asked, digits.train.load(range(80)), sigmas=SIGMAS, seed=0)
    generator = torch.Generator().manual_seed(1)
    test = digits.test.load(range(500))
    shares = []
    with torch.inference_mode():
        for sigma in (0.0, 0.12, 0.25):
            noisy = test + sigma * torch.randn(test.shape, generator=generator)
            same = surrogate.classifier(noisy).argmax(1) == digits_classifier(noisy).argmax(1)
            shares.append(same.float().mean().item())
    assert shares[0] > (0.88 if labels_only else 0.94)
    assert shares[1] > (0.85 if labels_only else 0.9)
    assert shares[2] > (0.65 if labels_only else 0.75)
    assert surrogate.agreement > (0.7 if labels_only else 0.78)


def test_gradients_come_from_the_surrogate_and_never_from_the_classifier(
    images: Tensor, queries: Callable[..., Queries]
) -> None:
    real = Brightness()
    surrogate = quick(queries(real, 60), images.clone().requires_grad_(True)).classifier
    samples = boundary_samples(
        surrogate, images, real(images).argmax(1), Attack(0.1, 0.05, 2), torch.Generator()
    )
    logits, features = surrogate.logits_and_features(samples.requires_grad_(True))
    (logits.sum() + features.sum()).backward()
    assert samples.grad is not None
    assert samples.grad.abs().sum() > 0
    assert real.scale.grad is None
    assert not any(parameter.requires_grad for parameter in surrogate.parameters())
    assert not any(part.training for part in surrogate.modules())
    with pytest.raises(RuntimeError, match="gradient of the real classifier"):
        real(images).sum().backward()


def test_the_seed_alone_decides(images: Tensor, queries: Callable[..., Queries]) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    classifiers = [Brightness() for _ in range(3)]
    first = quick(queries(classifiers[0], 60, "a"), images)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    again = quick(queries(classifiers[1], 60, "b"), images)
    other = quick(queries(classifiers[2], 60, "c"), images, seed=1)
    sent = [torch.cat(classifier.sent) for classifier in classifiers]
    assert torch.equal(sent[0], sent[1])
    assert not torch.equal(sent[0][: len(images) + 5], sent[2][: len(images) + 5])
    assert weights_hash(first.classifier) == weights_hash(again.classifier)
    assert first.agreement == again.agreement
    assert weights_hash(first.classifier) != weights_hash(other.classifier)


def test_a_surrogate_does_not_start_as_a_classifier_trained_from_the_same_seed(
    images: Tensor,
) -> None:
    torch.manual_seed(0)
    first = nn.Conv2d(1, 64, 3, bias=False).weight
    assert not torch.equal(next(_untrained(images, 10, 0).parameters()), first)


def test_an_interrupted_or_repeated_training_asks_nothing_twice_and_ends_the_same(
    images: Tensor, queries: Callable[..., Queries]
) -> None:
    undisturbed = quick(queries(Brightness(), 60, "whole"), images)
    real = Brightness()
    real.fail_at = 20
    with pytest.raises(KeyboardInterrupt):
        quick(queries(real, 60), images)
    answered = queries(real, 60).asked
    assert 8 <= answered < 60
    real.sent.clear()
    real.fail_at = 10**9
    resumed = quick(queries(real, 60), images)
    assert sum(map(len, real.sent)) == queries(real, 60).asked - answered
    real.sent.clear()
    repeated = quick(queries(real, 60), images)
    assert real.sent == []
    hashes = {weights_hash(s.classifier) for s in (undisturbed, resumed, repeated)}
    assert len(hashes) == 1


@pytest.mark.parametrize("budget", [8, 9, 30, 61])
def test_the_budget_is_used_and_never_exceeded(
    images: Tensor, queries: Callable[..., Queries], budget: int
) -> None:
    real = Brightness()
    asked = queries(real, budget)
    surrogate = quick(asked, images)
    assert sum(map(len, real.sent)) == asked.asked
    # A pair may be one image twice, which is known already.
    assert 0.9 * budget <= asked.asked <= budget
    assert torch.equal(real.sent[0], images)
    assert 0 <= surrogate.agreement <= 1
    assert surrogate.classifier(images).shape == (8, 3)


def test_a_budget_below_the_number_of_images_is_refused(
    images: Tensor, queries: Callable[..., Queries]
) -> None:
    real = Brightness()
    with pytest.raises(InputError, match=r"^query_budget: 7 is too small for 8 .*pass 8 or more$"):
        quick(queries(real, 7), images)
    assert real.sent == []


def test_queries_of_others_count_against_the_budget(
    images: Tensor, queries: Callable[..., Queries]
) -> None:
    asked = queries(Brightness(), 60)
    asked.ask(torch.rand(30, 1, 8, 8))
    with pytest.raises(QueryBudgetSpent, match="query_budget"):
        quick(asked, images)
    assert asked.asked <= 60


def test_agreement_is_measured_on_queries_that_training_never_saw(
    images: Tensor, queries: Callable[..., Queries]
) -> None:
    arbitrary = quick(queries(Arbitrary(), 400), images, effort=Effort(2, 12))
    assert arbitrary.agreement < 0.3
    simple = quick(queries(Brightness(), 400, "simple"), images, effort=Effort(2, 12))
    assert simple.agreement > 0.85


def test_progress_counts_the_epochs(images: Tensor, queries: Callable[..., Queries]) -> None:
    done: list[int] = []
    distill(queries(Brightness(), 8), images, sigmas=SIGMAS, seed=0, progress=done.append)
    assert done == [1] * EFFORT.total


def test_queries_are_noisy_mixed_and_attacked_images(images: Tensor) -> None:
    surrogate, size = _untrained(images, 3, 0), 2000
    plain = torch.linspace(0, 1, 8).view(8, 1, 1, 1).expand(8, 1, 16, 16)
    samples = _samples(surrogate, plain, size, SIGMAS, torch.Generator().manual_seed(0))
    means, deviations = samples.mean(dim=(1, 2, 3)), samples.std(dim=(1, 2, 3))
    noisy = deviations > 0.104
    mixed = deviations < 1e-6
    assert noisy.float().mean().item() == pytest.approx(0.8, abs=0.03)
    assert mixed.float().mean().item() == pytest.approx(0.1, abs=0.03)
    assert deviations.max() < 0.6
    assert 0.2 < deviations[noisy].log().mean().exp() < 0.29
    nearest = (means[mixed, None] - plain[:, 0, 0, 0]).abs().amin(dim=1)
    assert (nearest > 0.01).float().mean() > 0.6
    rest = samples[~noisy & ~mixed]
    assert rest.min() >= 0
    assert rest.max() <= 1


@pytest.mark.parametrize(
    "shape", [(3, 32, 32), (1, 28, 28), (3, 40, 24), (1, 8, 8), (3, 4, 4), (3, 96, 96)]
)
def test_images_of_any_size_have_a_surrogate(
    shape: tuple[int, int, int], queries: Callable[..., Queries]
) -> None:
    images = torch.rand((8, *shape), generator=torch.Generator().manual_seed(0))
    surrogate = quick(queries(Brightness(), 20), images, effort=Effort(1, 1)).classifier
    assert surrogate(images).shape == (8, 3)
    assert surrogate.logits_and_features(images)[1].shape == (8, 64)


def test_a_constant_channel_does_no_harm(queries: Callable[..., Queries]) -> None:
    images = torch.rand(8, 3, 8, 8)
    images[:, 1] = 0.3
    surrogate = quick(queries(Brightness(), 30), images).classifier
    assert surrogate(images).isfinite().all()
    assert surrogate.mean.flatten()[1].item() == pytest.approx(0.3)
    assert surrogate.std.flatten()[1].item() == 1


def test_a_classifier_that_always_answers_the_same_has_a_surrogate(
    images: Tensor, queries: Callable[..., Queries]
) -> None:
    constant = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    for parameter in constant.parameters():
        nn.init.zeros_(parameter)
    assert quick(queries(constant, 20), images).classifier(images).isfinite().all()


@pytest.mark.parametrize("scale", [0.05, 100.0])
def test_the_scale_of_the_logits_does_not_matter(
    images: Tensor, queries: Callable[..., Queries], scale: float
) -> None:
    class Scaled(Brightness):
        def forward(self, images: Tensor) -> Tensor:
            return scale * super().forward(images)

    assert quick(queries(Scaled(), 400), images, effort=Effort(2, 12)).agreement > 0.8
