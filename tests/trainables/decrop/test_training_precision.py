import time
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tests.support.small_networks import config
from trainables.decrop import precision as module
from trainables.decrop.precision import choose_training_precision
from trainables.models.classifiers import BaseClassifier

torch.set_num_threads(1)


class Watched(nn.Module):
    """A network that calls `watch` before it answers."""

    def __init__(self, network: nn.Module, watch: Callable[[Tensor, bool], None]) -> None:
        super().__init__()
        self.network, self.watch = network, watch

    def forward(self, images: Tensor) -> Tensor:
        self.watch(images, torch.is_autocast_enabled("cpu"))
        logits: Tensor = self.network(images)
        return logits


def slow_in_float32(images: Tensor, rounded: bool) -> None:
    time.sleep(0 if rounded else 0.05)


def slow_in_bfloat16(images: Tensor, rounded: bool) -> None:
    time.sleep(0.05 if rounded else 0)


def equally_slow(images: Tensor, rounded: bool) -> None:
    time.sleep(0.05)


def unable_in_bfloat16(images: Tensor, rounded: bool) -> None:
    if rounded:
        raise RuntimeError("not implemented for 'BFloat16'")
    time.sleep(0.05)


@pytest.mark.usefixtures("only_sleep_takes_time")
@pytest.mark.parametrize(
    ("watch", "expected"),
    [
        (slow_in_float32, "bfloat16"),
        (slow_in_bfloat16, "float32"),
        (equally_slow, "float32"),
        (unable_in_bfloat16, "float32"),
    ],
)
def test_the_clearly_faster_precision_is_chosen_if_it_works(
    classifier: BaseClassifier,
    images: Tensor,
    watch: Callable[[Tensor, bool], None],
    expected: str,
) -> None:
    watched = BaseClassifier(Watched(classifier.network, watch))
    assert choose_training_precision(watched, config(), images) == expected


def test_a_batch_is_filled_by_repetition_but_no_larger_than_a_processor_needs(
    classifier: BaseClassifier, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    watched = BaseClassifier(
        Watched(classifier.network, lambda images, _: sizes.append(len(images)))
    )
    choose_training_precision(watched, config(batch_size=100), images)
    # The clean images of a batch, and the three noisy views of each.
    assert {size for size in sizes if size > 2} == {100, 300}
    sizes.clear()
    monkeypatch.setattr(module, "CPU_PIXELS", 10 * 64)
    choose_training_precision(watched, config(batch_size=100), images)
    assert {size for size in sizes if size > 2} == {10, 30}


@pytest.mark.usefixtures("only_sleep_takes_time")
def test_a_hopeless_precision_is_not_measured_to_the_end(
    classifier: BaseClassifier, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SECONDS", 1000.0)
    watched = BaseClassifier(Watched(classifier.network, slow_in_bfloat16))
    assert choose_training_precision(watched, config(), images) == "float32"
