"""How the tests of endpoints reach them, and an exported program."""

import pytest
import torch

from tests.trainables.models.programs import Program, export, random_images, with_statistics
from trainables.models import endpoint
from trainables.models.classifiers import DigitsCNN


@pytest.fixture
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests go past any proxy and carry no token."""
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.delenv(endpoint.TOKEN_VARIABLE, raising=False)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries follow each other without a pause."""
    monkeypatch.setattr(endpoint, "BACKOFF", 0.01)


@pytest.fixture(scope="session")
def digits_program(tmp_path_factory: pytest.TempPathFactory) -> Program:
    torch.manual_seed(0)
    network = with_statistics(DigitsCNN(4))
    return export(tmp_path_factory.mktemp("digits") / "c.pt2", network, random_images()), network
