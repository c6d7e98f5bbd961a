"""The data set that comes with the package, endpoints, an exported program, a clock."""

import time

import pytest
import torch

from tests.support.programs import Program, export, random_images, with_statistics
from trainables.black_box import exchange
from trainables.data.datasets import Dataset, load_dataset
from trainables.models.architectures import DigitsCNN


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return load_dataset("digits")


@pytest.fixture
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests go past any proxy and carry no token."""
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.delenv(exchange.TOKEN_VARIABLE, raising=False)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries follow each other without a pause."""
    monkeypatch.setattr(exchange, "BACKOFF", 0.01)


@pytest.fixture(scope="session")
def digits_program(tmp_path_factory: pytest.TempPathFactory) -> Program:
    torch.manual_seed(0)
    network = with_statistics(DigitsCNN(4))
    return export(tmp_path_factory.mktemp("digits") / "c.pt2", network, random_images()), network


@pytest.fixture
def only_sleep_takes_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is measured does not depend on how busy this machine is."""
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(time, "sleep", sleep)
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
