from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.support.classifiers import random_images
from trainables.acceleration.voting import prepared
from trainables.errors import InputError
from trainables.models.adapting import adapt
from trainables.models.classifiers import BaseClassifier
from trainables.weights.checkpoint import weights_hash

torch.set_num_threads(1)
IMAGES = random_images((4, 1, 4, 4))


class Casting(nn.Module):
    """Weights of few bits, and images that are converted on the way in and out."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.head = nn.Linear(16, 3).to(dtype)
        self.dtype = dtype

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(images.flatten(1).to(self.dtype))
        return logits.float()


class Answering(nn.Module):
    def __init__(self, wrap: object) -> None:
        super().__init__()
        self.head, self.wrap = nn.Linear(16, 3), wrap

    def forward(self, images: Tensor) -> object:
        return self.wrap(self.head(images.flatten(1)))  # type: ignore[operator]


def adapted(network: nn.Module) -> BaseClassifier:
    torch.manual_seed(0)
    classifier = BaseClassifier(network)
    adapt(classifier, IMAGES)
    classifier.fix_head(IMAGES)
    return classifier


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_a_network_that_converts_images_itself_stays_as_it_is(dtype: torch.dtype) -> None:
    network = Casting(dtype)
    expected = network(IMAGES)
    classifier = adapted(network)
    assert network.head.weight.dtype == dtype
    assert torch.equal(classifier(IMAGES), expected)
    assert len(weights_hash(classifier)) == 64
    assert classifier.probe(IMAGES) == (3, 16)
    for precision in ("float32", "bfloat16"):
        votes = prepared(classifier, (1, 4, 4), precision)(IMAGES)
        assert torch.allclose(votes, expected.float(), atol=0.05)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_weights_of_another_type_are_converted_if_images_have_to_be_in_it(
    dtype: torch.dtype,
) -> None:
    head = nn.Linear(16, 3).to(dtype)
    expected = F.linear(IMAGES.flatten(1).double(), head.weight.double(), head.bias.double())
    classifier = adapted(nn.Sequential(nn.Flatten(), head))
    assert head.weight.dtype == torch.float32
    assert torch.allclose(classifier(IMAGES).double(), expected, atol=1e-6)


def test_the_hash_tells_weights_of_few_bits_apart() -> None:
    torch.manual_seed(0)
    network = Casting(torch.bfloat16)
    before = weights_hash(network)
    with torch.no_grad():
        network.head.bias[0] += 1
    assert weights_hash(network) != before


@pytest.mark.parametrize(
    "wrap",
    [lambda x: SimpleNamespace(logits=x, hidden=None), lambda x: {"logits": x, "hidden": None}],
)
def test_the_logits_of_an_object_or_a_dict_are_taken(wrap: object) -> None:
    network = Answering(wrap)
    classifier = adapted(network)
    logits, features = classifier.logits_and_features(IMAGES)
    assert torch.equal(logits, network.head(IMAGES.flatten(1)))
    assert torch.equal(features, IMAGES.flatten(1))
    assert classifier.head == "head"


@pytest.mark.parametrize("wrap", [lambda x: (x, x), lambda x: {"scores": x}, lambda x: [x]])
def test_other_answers_are_refused(wrap: object) -> None:
    with pytest.raises(InputError, match=r"returns a (tuple|dict|list), not logits"):
        adapted(Answering(wrap))


def test_images_that_are_not_taken_in_any_type_are_refused() -> None:
    with pytest.raises(InputError, match="does not accept images"):
        adapted(nn.Sequential(nn.Flatten(), nn.Linear(17, 3)).half())
