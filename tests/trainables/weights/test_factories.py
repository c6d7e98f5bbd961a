"""What users' factories return."""

import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trainables.errors import InputError
from trainables.models.classifiers import BaseClassifier
from trainables.weights.sources import ClassifierSpec, load_base_classifier


def compiled() -> nn.Module:
    network: Any = torch.compile(nn.Sequential(nn.Flatten(), nn.Linear(12, 3)))
    assert isinstance(network, nn.Module)
    return network


def scripted() -> nn.Module:
    module: nn.Module = torch.jit.script(nn.Sequential(nn.Flatten(), nn.Linear(12, 3)))
    return module


def lazy() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(3))


def without_values() -> nn.Module:
    with torch.device("meta"):
        return nn.Sequential(nn.Flatten(), nn.Linear(12, 3))


class Answering(nn.Module):
    """Gives its logits as an entry, or in a pair."""

    def __init__(self, entry: bool) -> None:
        super().__init__()
        self.head, self.entry = nn.Linear(12, 3), entry

    def forward(self, images: Tensor) -> object:
        logits = self.head(images.flatten(1))
        return {"logits": logits} if self.entry else (logits, images)


def entry() -> nn.Module:
    return Answering(True)


def pair() -> nn.Module:
    return Answering(False)


def loaded(factory: str) -> BaseClassifier:
    images = torch.rand(2, 3, 2, 2)
    return load_base_classifier(ClassifierSpec(f"{__name__}:{factory}"), images)


def test_what_torch_compile_returns_is_taken_as_the_network_itself() -> None:
    assert isinstance(loaded("compiled").network, nn.Sequential)


def test_an_entry_of_logits_is_taken() -> None:
    classifier = loaded("entry")
    assert classifier(torch.rand(4, 3, 2, 2)).shape == (4, 3)


@pytest.mark.parametrize(
    ("factory", "said"),
    [
        ("scripted", "returns a TorchScript module; return the network that it was made from"),
        ("lazy", "its 1.weight has no shape yet; classify an image before"),
        ("without_values", "its 1.weight has no values (device meta)"),
        ("pair", "it returns a tuple, not logits [batch, classes]; wrap it in a module"),
    ],
)
def test_networks_that_cannot_be_used_are_refused_with_a_remedy(factory: str, said: str) -> None:
    with pytest.raises(InputError, match=re.escape(said)):
        loaded(factory)
