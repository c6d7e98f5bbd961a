import time
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tests.support.small_networks import config
from trainables.decrop import pace
from trainables.decrop import precision as module
from trainables.decrop.precision import choose_training_precision, computes_bfloat16
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


def without_memory(images: Tensor, rounded: bool) -> None:
    if rounded:
        raise torch.OutOfMemoryError("CUDA out of memory")


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


@pytest.mark.parametrize(
    ("watch", "expected"),
    [
        (equally_slow, "bfloat16"),
        (slow_in_bfloat16, "bfloat16"),
        (unable_in_bfloat16, "float32"),
        (without_memory, "bfloat16"),
    ],
)
def test_on_a_gpu_with_bfloat16_it_is_that_if_it_works(
    classifier: BaseClassifier,
    images: Tensor,
    watch: Callable[[Tensor, bool], None],
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "computes_bfloat16", lambda device: True)
    in_float32: list[int] = []

    def watched(images: Tensor, rounded: bool) -> None:
        # Of the steps themselves, not of the examples on which the classifier is folded.
        if not rounded and len(images) > 2:
            in_float32.append(len(images))
        watch(images, rounded)

    foreign = BaseClassifier(Watched(classifier.network, watched))
    assert choose_training_precision(foreign, config(), images) == expected
    assert in_float32 == []


def test_only_gpus_are_asked_for_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def supported(including_emulation: bool) -> bool:
        asked.append(including_emulation)
        return True

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert not computes_bfloat16(torch.device("cpu"))
    assert computes_bfloat16(torch.device("cuda"))
    # Older cards emulate it, slowly.
    assert asked == [False]


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
    monkeypatch.setattr(pace, "CPU_PIXELS", 10 * 64)
    choose_training_precision(watched, config(batch_size=100), images)
    assert {size for size in sizes if size > 2} == {10, 30}


@pytest.mark.usefixtures("only_sleep_takes_time")
def test_a_hopeless_precision_is_not_measured_to_the_end(
    classifier: BaseClassifier, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SECONDS", 1000.0)
    watched = BaseClassifier(Watched(classifier.network, slow_in_bfloat16))
    assert choose_training_precision(watched, config(), images) == "float32"
