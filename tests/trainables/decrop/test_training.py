from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.support.small_networks import config, denoiser_inputs, from_file
from trainables.acceleration.voting import Precision
from trainables.data.datasets import Dataset
from trainables.decrop.config import BASELINES
from trainables.decrop.samples import MemoryStore, generate
from trainables.decrop.training import DecropTraining, SharedParts, _batches
from trainables.models.classifiers import BaseClassifier
from trainables.weights.checkpoint import weights_hash
from trainables.weights.denoiser_file import denoiser_bytes

torch.set_num_threads(1)


def test_the_seed_decides_everything(
    classifier: BaseClassifier, images: Tensor, labels: Tensor
) -> None:
    runs = []
    for seed, global_seed in ((1, 10), (1, 20), (2, 10)):
        torch.manual_seed(global_seed)
        training = DecropTraining(config(), classifier, images, labels, seed)
        losses = [training.train_epoch() for _ in range(4)]
        runs.append((losses, denoiser_bytes(training.denoiser)))
    assert runs[0] == runs[1]
    assert runs[0][0] != runs[2][0]
    assert runs[0][1] != runs[2][1]


def test_training_leaves_the_global_random_state_alone(
    classifier: BaseClassifier, images: Tensor, labels: Tensor
) -> None:
    before = torch.get_rng_state()
    DecropTraining(config(), classifier, images, labels, 0).train_epoch()
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("done", [0, 1, 3])
def test_a_restored_training_goes_on_bit_for_bit(
    classifier: BaseClassifier, images: Tensor, labels: Tensor, done: int
) -> None:
    whole = DecropTraining(config(), classifier, images, labels, 0)
    for _ in range(done):
        whole.train_epoch()
    restored = DecropTraining(config(), classifier, images, labels, seed=99)
    restored.load_state_dict(from_file(whole))
    assert restored.epoch == done
    for _ in range(done, 4):
        assert whole.train_epoch() == restored.train_epoch()
    assert denoiser_bytes(whole.denoiser) == denoiser_bytes(restored.denoiser)


class NormFirst(nn.Module):
    """Starts with a batch norm, which cannot be folded, and flattens with `view`."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.first = nn.BatchNorm2d(1), nn.Conv2d(1, 4, 3, padding=1)
        self.middle, self.last = nn.BatchNorm2d(4), nn.Linear(256, 10)

    def forward(self, images: Tensor) -> Tensor:
        hidden = torch.relu(self.middle(self.first(self.norm(images))))
        logits: Tensor = self.last(hidden.view(len(images), 256))
        return logits


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("foreign", [False, True], ids=["digits", "norm first"])
def test_training_changes_the_denoiser_and_nothing_of_the_classifier(
    classifier: BaseClassifier,
    images: Tensor,
    labels: Tensor,
    foreign: bool,
    precision: Precision,
) -> None:
    if foreign:
        classifier = BaseClassifier(NormFirst())
    chosen, shared = config(), SharedParts(precision=precision)
    training = DecropTraining(chosen, classifier, images, labels, 0, shared)
    used = training._classifier
    before = weights_hash(classifier), weights_hash(used), denoiser_bytes(training.denoiser)
    for _ in range(4):
        training.train_epoch()
    after = weights_hash(classifier), weights_hash(used), denoiser_bytes(training.denoiser)
    assert [a == b for a, b in zip(before, after, strict=True)] == [True, True, False]
    for module in (classifier, used):
        norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
        assert not any(norm.training for norm in norms)
        assert not any(p.requires_grad for p in module.parameters())
        assert all(p.grad is None for p in module.parameters())
    # The last one looked at is the copy that training uses.
    assert bool(norms) == foreign
    assert nn.Sequential(training.denoiser, classifier).eval()(images).shape == (24, 10)


@pytest.mark.parametrize("joined", [False, True])
def test_the_three_inputs_of_an_image_share_noise_of_the_right_strength(
    classifier: BaseClassifier, images: Tensor, labels: Tensor, joined: bool
) -> None:
    chosen = config(
        batch_size=24, crop_padding=0, sigma=0.5, attack_radius=0.2, step_size=0.1,
        joined_batch_norm=joined,
    )  # fmt: skip
    training = DecropTraining(chosen, classifier, images, labels, 0)
    x, boundary, interpolated = training.views
    inputs = denoiser_inputs(training)
    training.train_epoch()
    assert len(inputs) == (1 if joined else 3)
    noisy, noisy_boundary, noisy_interpolated = torch.cat(inputs).chunk(3)
    shifts = torch.cdist((noisy_boundary - noisy).flatten(1), (boundary - x).flatten(1))
    order = shifts.argmin(1)
    assert sorted(order.tolist()) == list(range(24))
    assert torch.allclose(noisy_boundary - noisy, (boundary - x)[order], atol=1e-5)
    assert torch.allclose(noisy_interpolated - noisy, (interpolated - x)[order], atol=1e-5)
    noise = noisy - x[order]
    assert noise.std().item() == pytest.approx(0.5, rel=0.1)
    assert abs(noise.mean().item()) < 0.05


def test_the_learning_rate_drops_after_each_third(
    classifier: BaseClassifier, images: Tensor, labels: Tensor
) -> None:
    chosen = config(**BASELINES["label_consistency"], epochs=6, learning_rate=0.1, lr_decay=0.5)
    training = DecropTraining(chosen, classifier, images, labels, 0)
    rates = []
    for _ in range(6):
        training.train_epoch()
        rates.append(training.state_dict()["adam"]["param_groups"][0]["lr"])
    assert rates == pytest.approx([0.1, 0.1, 0.05, 0.05, 0.025, 0.025])


def test_every_image_is_seen_once_an_epoch_in_an_order_of_its_own(
    classifier: BaseClassifier, images: Tensor, labels: Tensor
) -> None:
    chosen = config(**BASELINES["label_consistency"], sigma=1e-6, crop_padding=0)
    training = DecropTraining(chosen, classifier, images, labels, 0)
    orders = []
    for _ in range(2):
        inputs = denoiser_inputs(training)
        training.train_epoch()
        seen = torch.cat(inputs).flatten(1)
        orders.append(torch.cdist(seen, images.flatten(1)).argmin(1).tolist())
    assert [sorted(order) for order in orders] == [list(range(24))] * 2
    assert orders[0] != orders[1]


@settings(deadline=None)
@given(images=st.integers(2, 500), size=st.integers(2, 600), equal=st.booleans())
def test_no_batch_holds_a_single_image(images: int, size: int, equal: bool) -> None:
    order = torch.arange(images)
    batches = _batches(order, size, equal)
    sizes = [len(batch) for batch in batches]
    assert torch.equal(torch.cat(batches), order)
    assert min(sizes) >= 2
    if equal:
        assert max(sizes) - min(sizes) <= 1
        assert max(sizes) <= max(size, 3)
    else:
        assert set(sizes[:-1]) <= {size}
        assert sizes[-1] <= size + 1
        assert len(set(sizes)) <= 2


@pytest.mark.parametrize(
    ("images", "size", "published", "equal"),
    [
        (500, 200, [200, 200, 100], [167, 167, 166]), (401, 200, [200, 201], [134, 134, 133]),
        (400, 200, [200, 200], [200, 200]), (120, 200, [120], [120]), (3, 2, [3], [3]),
    ],
)  # fmt: skip
def test_batches_are_full_but_for_the_last_or_nearly_equal(
    images: int, size: int, published: list[int], equal: list[int]
) -> None:
    order = torch.arange(images)
    assert [len(batch) for batch in _batches(order, size, equal=False)] == published
    assert [len(batch) for batch in _batches(order, size, equal=True)] == equal


@pytest.mark.parametrize(("equal", "sizes"), [(False, [8, 9]), (True, [6, 6, 5])])
def test_an_incomplete_last_batch_trains(
    classifier: BaseClassifier, images: Tensor, labels: Tensor, equal: bool, sizes: list[int]
) -> None:
    chosen = config(batch_size=8, equal_batches=equal, stages=1, discriminator_start=0)
    training = DecropTraining(chosen, classifier, images[:17], labels[:17], 0)
    inputs = denoiser_inputs(training)
    training.train_epoch()
    assert [len(batch) for batch in inputs] == [size for size in sizes for _ in range(3)]


@pytest.mark.parametrize(("joined", "passes"), [(False, 9), (True, 3)])
def test_a_denoiser_in_evaluation_mode_is_trained_in_training_mode(
    classifier: BaseClassifier, images: Tensor, labels: Tensor, joined: bool, passes: int
) -> None:
    training = DecropTraining(config(joined_batch_norm=joined), classifier, images, labels, 0)
    training.denoiser.eval()
    training.train_epoch()
    norms = [m for m in training.denoiser.modules() if isinstance(m, nn.BatchNorm2d)]
    assert all(int(norm.num_batches_tracked or 0) == passes for norm in norms)


@pytest.mark.parametrize("initial", [False, True])
def test_batch_norm_has_the_constants_of_the_configuration(
    classifier: BaseClassifier, images: Tensor, labels: Tensor, initial: bool
) -> None:
    trained = denoiser_bytes(
        DecropTraining(config(norm_eps=0.02), classifier, images, labels, 0).denoiser
    )
    shared = SharedParts(initial=trained if initial else None)
    chosen = config(norm_eps=0.02, norm_momentum=0.3)
    training = DecropTraining(chosen, classifier, images, labels, 0, shared)
    norms = [m for m in training.denoiser.modules() if isinstance(m, nn.BatchNorm2d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(0.02, 0.3)}


@pytest.mark.parametrize(
    ("sizes", "spec"),
    [
        ({"denoiser": "dncnn"}, {"depth": 3, "width": 4}),
        (
            {"denoiser": "memnet", "memory_blocks": 2, "residual_blocks": 1},
            {"memory_blocks": 2, "residual_blocks": 1, "width": 4},
        ),
        ({"denoiser": "unet", "levels": 2}, {"levels": 2, "width": 4}),
    ],
    ids=["dncnn", "memnet", "unet"],
)
def test_every_denoiser_trains(
    classifier: BaseClassifier, digits: Dataset, sizes: dict[str, Any], spec: dict[str, int]
) -> None:
    images, labels = digits.train.load(range(100)), digits.train.labels[:100]
    chosen = config(**BASELINES["mse"] | sizes, epochs=30, batch_size=25)
    training = DecropTraining(chosen, classifier, images, labels, 0)
    assert training.denoiser.spec == {
        "architecture": sizes["denoiser"], "channels": 1, **spec, "norm_eps": 1e-4,
    }  # fmt: skip
    history = [training.train_epoch()["mse"] for _ in range(30)]
    assert history[-1] < 0.6 * chosen.sigma**2


def test_trials_share_samples_through_a_store_but_not_their_training(
    classifier: BaseClassifier, images: Tensor, labels: Tensor
) -> None:
    store = MemoryStore()
    first, second, other = (
        DecropTraining(
            config(), classifier, images, labels, seed, SharedParts(sample_seed=own, store=store)
        )
        for seed, own in ((1, 5), (2, 5), (1, 6))
    )
    assert len(store) == 4
    expected = generate(classifier, images, labels, config(), 5, MemoryStore())
    for training in (first, second):
        for view, wanted in zip(training.views, (images, *expected), strict=True):
            assert torch.equal(view, wanted)
    assert not torch.equal(other.views[1], first.views[1])
    inputs = [denoiser_inputs(training) for training in (first, second, other)]
    assert denoiser_bytes(first.denoiser) == denoiser_bytes(other.denoiser)
    losses = [training.train_epoch() for training in (first, second, other)]
    assert losses[0] != losses[1]
    # The first are the images themselves, with the noise that the seed alone decides.
    (mine, theirs, same) = (batches[0] for batches in inputs)
    assert not torch.equal(mine, theirs)
    assert torch.equal(mine, same)


def test_samples_are_kept_out_of_the_state(
    classifier: BaseClassifier, images: Tensor, labels: Tensor
) -> None:
    training = DecropTraining(config(), classifier, images, labels, 0)
    assert "views" not in training.state_dict()
    assert len(training.views) == 3
