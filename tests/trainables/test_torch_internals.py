"""The private names of PyTorch: all there, and on one page."""

import copy
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import trainables
from trainables import torch_internals

PRIVATE = re.compile(
    r"\b(torch|nn|fx)(\.\w+)*\._[a-z]|\._(buffers|modules|parameters|\w*_hooks)\b|\.cudnn_conv"
)


def test_this_pytorch_has_every_name() -> None:
    torch_internals.check()


def test_a_name_that_is_gone_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("torch._export.serde.serialize._SERIALIZE_TO_TORCH_LAYOUT")
    torch_internals.file_numbers.cache_clear()
    with pytest.raises(AttributeError, match="_SERIALIZE_TO_TORCH_LAYOUT"):
        torch_internals.check()


def test_no_other_page_uses_private_names() -> None:
    pages = sorted(Path(trainables.__file__).parent.rglob("*.py"))
    found = {page.name for page in pages if PRIVATE.search(page.read_text())}
    assert found == {"torch_internals.py"}


@pytest.mark.parametrize("fused", [False, True])
def test_adam_is_that_of_pytorch_to_the_last_bit(fused: bool) -> None:
    trained = []
    for optimiser in (torch.optim.Adam, torch_internals.Adam):
        weights = torch.linspace(-1, 1, 7, requires_grad=True)
        adam = optimiser([weights], lr=0.1, weight_decay=0.01, fused=fused)
        for step in range(4):
            adam.zero_grad()
            weights.pow(2).mul(torch.arange(7)).sum().backward()
            if step == 2:
                adam.load_state_dict(copy.deepcopy(adam.state_dict()))
            adam.step()
        trained.append(weights.detach())
    assert torch.equal(*trained)


def test_a_training_imports_no_compiler() -> None:
    train = """
import sys, torch
from trainables.decrop.config import DecropConfig
from trainables.decrop.training import DecropTraining
from trainables.models.architectures import DigitsCNN
from trainables.models.classifiers import BaseClassifier
config = DecropConfig(depth=3, width=4, epochs=1, attack_steps=1, interpolation_steps=1, stages=1)
images, labels = torch.rand(4, 1, 8, 8), torch.arange(4)
training = DecropTraining(config, BaseClassifier(DigitsCNN()), images, labels, 0)
training.train_epoch()
training.load_state_dict(training.state_dict())
sys.exit("torch._dynamo" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", train], check=False).returncode == 0
