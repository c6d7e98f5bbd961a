from collections.abc import Callable

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, OneCycleLR, StepLR

from tests.support.small_networks import config
from trainables.decrop.config import BASELINES
from trainables.decrop.schedules import Schedule, learning_rate_factor
from trainables.decrop.training import DecropTraining
from trainables.models.classifiers import BaseClassifier

torch.set_num_threads(1)
Make = Callable[[torch.optim.Optimizer], LRScheduler]
SCHEDULES: list[Schedule] = ["step", "cosine", "onecycle"]


def factors_of_torch(make: Make, count: int) -> list[float]:
    """The learning rates that PyTorch's own schedule gives for a learning rate of 1."""
    sgd = torch.optim.SGD([nn.Parameter(torch.zeros(()))], lr=1.0)
    scheduler = make(sgd)
    factors = []
    for _ in range(count):
        factors.append(float(sgd.param_groups[0]["lr"]))
        sgd.step()
        scheduler.step()
    return factors


def one_cycle(last: int) -> Make:
    """Of PyTorch, from step 0 to step `last`, rising for exactly 30 % of the way."""
    rising = (0.3 * last + 1) / (last + 1)
    return lambda sgd: OneCycleLR(
        sgd, max_lr=1.0, total_steps=last + 1, pct_start=rising, cycle_momentum=False
    )


def factors(schedule: Schedule, count: int, last: int, decay: float = 0.1) -> list[float]:
    return [learning_rate_factor(schedule, step / last, decay) for step in range(count)]


@pytest.mark.parametrize("decay", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("third", [1, 7, 200])
def test_the_step_schedule_is_that_of_pytorch(third: int, decay: float) -> None:
    expected = factors_of_torch(lambda sgd: StepLR(sgd, third, decay), 3 * third)
    assert factors("step", 3 * third, 3 * third, decay) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("last", [1, 10, 600])
def test_the_cosine_schedule_is_that_of_pytorch(last: int) -> None:
    expected = factors_of_torch(lambda sgd: CosineAnnealingLR(sgd, last), last)
    assert factors("cosine", last, last) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("last", [10, 37, 600])
def test_the_one_cycle_schedule_is_that_of_pytorch(last: int) -> None:
    expected = factors_of_torch(one_cycle(last), last + 1)
    found = factors("onecycle", last + 1, last)
    assert found == pytest.approx(expected, abs=1e-6)
    assert found[-1] == pytest.approx(expected[-1], rel=1e-6)


def test_the_published_schedule_falls_exactly_at_epochs_200_and_400_of_600() -> None:
    found = factors("step", 600, 600)
    assert found == pytest.approx([1.0] * 200 + [0.1] * 200 + [0.01] * 200)


def test_the_step_schedule_falls_at_thirds_whatever_the_rounding() -> None:
    wrong = []
    for epochs in range(1, 26):
        for batches in range(1, 13):
            for step in range(epochs * batches):
                # As training computes it, against thirds in whole numbers.
                progress = (step // batches + step % batches / batches) / epochs
                thirds = 3 * step // (epochs * batches)
                if learning_rate_factor("step", progress, 0.5) != 0.5**thirds:
                    wrong.append((epochs, batches, step))
    assert wrong == []


@settings(deadline=None)
@given(
    schedule=st.sampled_from(SCHEDULES),
    progress=st.floats(0, 1 - 1e-6),
    decay=st.floats(0, 1, exclude_min=True, allow_subnormal=False).filter(lambda d: d > 1e-100),
)
@example(schedule="onecycle", progress=0.3, decay=0.1)
@example(schedule="cosine", progress=1 - 1e-6, decay=0.1)
def test_a_factor_is_positive_and_at_most_one(
    schedule: Schedule, progress: float, decay: float
) -> None:
    assert 0 < learning_rate_factor(schedule, progress, decay) <= 1


@pytest.mark.parametrize(
    ("schedule", "make"),
    [
        ("step", lambda sgd: StepLR(sgd, 6, 0.5)),
        ("cosine", lambda sgd: CosineAnnealingLR(sgd, 18)),
        ("onecycle", one_cycle(18)),
    ],
)
def test_training_follows_the_schedule_step_by_step(
    classifier: BaseClassifier, images: Tensor, labels: Tensor, schedule: Schedule, make: Make
) -> None:
    chosen = config(
        **BASELINES["mse"], schedule=schedule, epochs=6, batch_size=8, learning_rate=0.02,
        lr_decay=0.5,
    )  # fmt: skip
    training = DecropTraining(chosen, classifier, images, labels, 0)
    rates: list[float] = []
    training.denoiser.register_forward_pre_hook(
        lambda *_: rates.append(training.state_dict()["adam"]["param_groups"][0]["lr"])
    )
    for _ in range(6):
        training.train_epoch()
    expected = [0.02 * factor for factor in factors_of_torch(make, 18)]
    assert rates == pytest.approx(expected, abs=1e-8)
