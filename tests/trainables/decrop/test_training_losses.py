import copy
import math

import pytest
import torch
from torch import Tensor, nn

from tests.support.small_networks import config, denoiser_inputs
from trainables.data.datasets import Dataset
from trainables.decrop.config import BASELINES
from trainables.decrop.samples import MemoryStore
from trainables.decrop.training import DecropTraining, SharedParts
from trainables.errors import NonFiniteLoss
from trainables.models.classifiers import BaseClassifier
from trainables.models.denoisers import DnCNN
from trainables.weights.denoiser_file import denoiser_bytes

torch.set_num_threads(1)


def test_every_loss_falls_on_digits(classifier: BaseClassifier, digits: Dataset) -> None:
    images, labels = digits.train.load(range(100)), digits.train.labels[:100]
    chosen = config(epochs=30, width=16, batch_size=25, crop_padding=0, reversal_strength=0)
    training = DecropTraining(chosen, classifier, images, labels, 0)
    history = [training.train_epoch() for _ in range(30)]
    for name in ("label_consistency", "logit_similarity", "mmd"):
        values = [losses[name] for losses in history]
        assert sum(values[-5:]) / 5 < 0.75 * sum(values[:3]) / 3, name


def test_denoising_by_mean_squared_error_beats_doing_nothing(
    classifier: BaseClassifier, digits: Dataset
) -> None:
    images, labels = digits.train.load(range(100)), digits.train.labels[:100]
    chosen = config(**BASELINES["mse"], epochs=30, width=8)
    training = DecropTraining(chosen, classifier, images, labels, 0)
    history = [training.train_epoch()["mse"] for _ in range(30)]
    assert history[0] < 2 * chosen.sigma**2
    assert history[-1] < 0.6 * chosen.sigma**2


@pytest.mark.parametrize(
    ("weight", "term"),
    [
        ("w_label", "label_consistency"), ("w_mse", "mse"),
        ("w_cosine", "logit_similarity"), ("w_mmd", "mmd"),
    ],
)  # fmt: skip
def test_each_weight_switches_its_own_term_on(
    classifier: BaseClassifier, images: Tensor, labels: Tensor, weight: str, term: str
) -> None:
    off = {"w_label": 0, "w_mse": 0, "w_cosine": 0, "w_mmd": 0, "reversal_strength": 0}
    training = DecropTraining(config(**off | {weight: 1}), classifier, images, labels, 0)
    assert list(training.train_epoch()) == [term]


def without_numbers(layer: nn.Module) -> None:
    """Make the outputs of `layer` NaN for every image."""
    nn.init.constant_(layer.get_parameter("weight"), math.nan)


@pytest.mark.parametrize(
    ("weight", "term", "broken"),
    [
        ("w_label", "label_consistency", "classifier"),
        ("w_cosine", "logit_similarity", "classifier"), ("w_mmd", "mmd", "features"),
        ("w_label", "label_consistency", "denoiser"), ("w_cosine", "logit_similarity", "denoiser"),
        ("w_mmd", "mmd", "denoiser"), ("w_mse", "mse", "denoiser"),
    ],
)  # fmt: skip
def test_a_term_that_is_no_number_is_named(
    classifier: BaseClassifier, images: Tensor, labels: Tensor,
    weight: str, term: str, broken: str,
) -> None:  # fmt: skip
    off = {"w_label": 0, "w_mse": 0, "w_cosine": 0, "w_mmd": 0, "reversal_strength": 0}
    classifier, denoiser = copy.deepcopy(classifier), DnCNN(1, depth=3, width=4)
    if broken == "denoiser":
        without_numbers(denoiser.net[-1])
    else:
        layer = 14 if broken == "classifier" else 9
        without_numbers(classifier.get_submodule(f"network.{layer}"))
    initial = denoiser_bytes(denoiser)
    chosen = config(**off | {weight: 1}, norm_eps=denoiser.spec["norm_eps"])
    training = DecropTraining(chosen, classifier, images, labels, 0, SharedParts(initial=initial))
    with pytest.raises(NonFiniteLoss, match=rf"^loss term {term} became nan in epoch 1$"):
        training.train_epoch()


def test_an_epoch_reports_the_mean_of_each_term_over_its_batches(
    classifier: BaseClassifier, images: Tensor, labels: Tensor
) -> None:
    chosen = config(
        **BASELINES["label_consistency"],
        batch_size=6,
        learning_rate=1e-12,
        weight_decay=0,
        crop_padding=0,
    )
    training = DecropTraining(chosen, classifier, images, labels, 0)
    inputs = denoiser_inputs(training)
    found = training.train_epoch()["label_consistency"]
    own_labels = {x.numpy().tobytes(): int(classifier(x[None]).argmax()) for x in images}
    expected = []
    for batch in inputs:
        nearest = torch.cdist(batch.flatten(1), images.flatten(1)).argmin(1)
        targets = [own_labels[images[i].numpy().tobytes()] for i in nearest]
        shares = classifier(batch).double().softmax(1)
        expected.append(-sum(math.log(shares[i, t]) for i, t in enumerate(targets)) / len(batch))
    assert len(inputs) == 4
    assert found == pytest.approx(sum(expected) / 4, rel=1e-4)


@pytest.mark.parametrize("baseline", ["label_consistency", "mse"])
def test_a_baseline_reports_its_term_alone_and_generates_nothing(
    classifier: BaseClassifier, images: Tensor, labels: Tensor, baseline: str
) -> None:
    store = MemoryStore()
    chosen = config(**BASELINES[baseline], discriminator_start=0)
    training = DecropTraining(chosen, classifier, images, labels, 0, SharedParts(store=store))
    assert list(training.train_epoch()) == [baseline]
    (view,) = training.views
    assert torch.equal(view, images)
    assert not store
