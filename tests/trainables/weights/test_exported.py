from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from ray import cloudpickle
from torch import Tensor, nn

from tests.support.programs import (
    Program,
    export,
    random_images,
    refusal,
    with_statistics,
)
from trainables.errors import InputError
from trainables.models.architectures import CifarResNet, DigitsCNN
from trainables.models.classifiers import BaseClassifier
from trainables.weights.checkpoint import weights_hash
from trainables.weights.exported import FEATURES, load_exported
from trainables.weights.sources import ClassifierSpec, load_base_classifier

torch.set_num_threads(1)


class Branching(nn.Module):
    """Operators whose results are lists and sizes, a constant, and an unused last layer."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.head = nn.Linear(8, 6), nn.Linear(6, 3)
        self.scale: Tensor
        self.register_buffer("scale", torch.tensor([1.0, 2.0]), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        left, right = images.flatten(1).chunk(2, dim=1)
        joined = torch.cat((right * self.scale[0], left * torch.tensor([0.5])), dim=1)
        hidden = F.gelu(self.hidden(joined.reshape(images.shape[0] * 1, 8)))
        logits: Tensor = self.head(hidden.masked_fill(hidden > 0.5, float("-inf")).clamp(min=-2))
        return logits


@pytest.mark.parametrize("decomposed", [False, True])
@pytest.mark.parametrize("kind", ["digits", "resnet", "branching"])
def test_logits_features_and_gradients_are_those_of_the_network(
    tmp_path: Path, kind: str, decomposed: bool
) -> None:
    torch.manual_seed(0)
    networks: dict[str, tuple[nn.Module, Tensor]] = {
        "digits": (DigitsCNN(4), random_images()),
        "resnet": (CifarResNet(1, 5, projection=True), random_images(channels=3)),
        "branching": (Branching(), random_images(channels=2, size=2)),
    }
    network, example = networks[kind]
    plain = BaseClassifier(with_statistics(network), (0.3,), (0.6,))
    path = export(tmp_path / "c.pt2", network, example, decomposed=decomposed)
    classifier = load_base_classifier(ClassifierSpec(str(path), mean=(0.3,), std=(0.6,)), example)
    for count in (1, 2, 7):
        images = torch.rand(count, *example.shape[1:], requires_grad=True)
        found, expected = (c.logits_and_features(images) for c in (classifier, plain))
        gradients = [
            torch.autograd.grad(logits.square().sum(), images)[0] for logits, _ in (found, expected)
        ]
        assert torch.allclose(found[0], expected[0], atol=1e-5)
        assert torch.allclose(found[1], expected[1], atol=1e-5)
        assert torch.allclose(gradients[0], gradients[1], atol=1e-5)
        assert gradients[0].abs().sum() > 0
    assert classifier.probe(example) == plain.probe(example)


def test_the_weights_are_in_the_state_and_never_change(digits_program: Program) -> None:
    path, network = digits_program
    classifier = BaseClassifier(load_exported(path), feature_layer=FEATURES)
    wanted = [t for n, t in network.state_dict().items() if not n.endswith("batches_tracked")]
    found = classifier.network.state_dict().values()
    assert all(any(torch.equal(f, w) for f in found) for w in wanted)
    before = weights_hash(classifier)
    classifier.train()(random_images().requires_grad_(True)).sum().backward()
    assert weights_hash(classifier) == before
    assert not any(t.requires_grad for t in classifier.network.state_dict().values())
    assert not any(module.training for module in classifier.modules())


def test_the_hash_depends_on_the_weights(tmp_path: Path) -> None:
    hashes = set()
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        path = export(tmp_path / "c.pt2", DigitsCNN(4).eval(), random_images())
        hashes.add(weights_hash(load_exported(path)))
    assert len(hashes) == 2


@pytest.mark.parametrize(
    "twin",
    [copy.deepcopy, lambda c: pickle.loads(pickle.dumps(c)),
     lambda c: cloudpickle.loads(cloudpickle.dumps(c))],
    ids=["copy", "pickle", "cloudpickle"],
)  # fmt: skip
def test_an_exported_network_travels(
    digits_program: Program, twin: Callable[[BaseClassifier], BaseClassifier]
) -> None:
    classifier = load_base_classifier(ClassifierSpec(str(digits_program[0])), random_images())
    other, images = twin(classifier), random_images(5)
    assert weights_hash(other) == weights_hash(classifier)
    for value, expected in zip(
        other.logits_and_features(images), classifier.logits_and_features(images), strict=True
    ):
        assert torch.equal(value, expected)


def test_the_state_of_another_program_can_be_loaded(tmp_path: Path) -> None:
    paths = [export(tmp_path / f"{i}.pt2", DigitsCNN(4).eval(), random_images()) for i in range(2)]
    first, second = (load_exported(path) for path in paths)
    second.load_state_dict(first.state_dict())
    assert torch.equal(second(random_images()), first(random_images()))


def test_a_feature_layer_is_a_value_of_the_graph(digits_program: Program) -> None:
    path, network = digits_program
    images = random_images()
    classifier = load_base_classifier(ClassifierSpec(str(path), feature_layer="relu_1"), images)
    _, features = classifier.logits_and_features(images)
    assert torch.equal(features, nn.Sequential(*list(network.children())[:6])(images).flatten(1))
    assert "did you mean" in refusal(path, "relu1")


def test_without_linear_layer_a_feature_layer_is_asked_for(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    path = export(tmp_path / "c.pt2", network.eval(), random_images())
    assert refusal(path).startswith("feature_layer: ")
    assert "conv2d" in refusal(path)
    classifier = load_base_classifier(
        ClassifierSpec(str(path), feature_layer="conv2d"), random_images()
    )
    assert classifier.probe(random_images()) == (2, 72)


@pytest.mark.parametrize("options", [{"dynamic": False}, {"most": 64}], ids=str)
def test_a_bounded_batch_is_refused_with_the_remedy(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    path = export(tmp_path / "c.pt2", DigitsCNN().eval(), random_images(), **options)
    assert "dynamic_shapes=({0: torch.export.Dim('batch')},)" in refusal(path)


@pytest.mark.parametrize("decomposed", [False, True])
@pytest.mark.parametrize(
    "network",
    [
        DigitsCNN(),
        nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(64, 3)),
        nn.Sequential(nn.BatchNorm2d(1, track_running_stats=False), nn.Flatten(), nn.Linear(64, 2)),
    ],
    ids=["batch norm", "dropout", "batch statistics"],
)
def test_a_network_in_training_mode_is_refused(
    tmp_path: Path, network: nn.Module, decomposed: bool
) -> None:
    path = export(tmp_path / "c.pt2", network.train(), random_images(), decomposed=decomposed)
    if decomposed and isinstance(network[1], nn.Dropout):  # type: ignore[index]
        assert "native_dropout" in path.read_bytes().decode("latin1")
    assert "call .eval() before torch.export.export" in refusal(path)


class Counting(nn.Module):
    """Counts its images in a buffer, in evaluation mode too."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 3)
        self.count: Tensor
        self.register_buffer("count", torch.zeros(()))

    def forward(self, images: Tensor) -> Tensor:
        self.count.add_(images.shape[0])
        return self.linear(images.flatten(1)) / self.count  # type: ignore[no-any-return]


@pytest.mark.parametrize("decomposed", [False, True])
def test_a_network_that_changes_itself_is_refused(tmp_path: Path, decomposed: bool) -> None:
    network = Counting().eval()
    path = export(tmp_path / "c.pt2", network, random_images(), decomposed=decomposed)
    assert "changes its weights" in refusal(path)


class Odd(nn.Module):
    """Not a classifier of images alone."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.linear, self.kind = nn.Linear(64, 3), kind

    def forward(self, images: Tensor) -> Any:
        if self.kind == "no_grad":
            with torch.no_grad():
                return self.linear(images.flatten(1))
        logits = self.linear(images.flatten(1))
        return (logits, logits * 2)


@pytest.mark.parametrize(("kind", "found"), [("pair", "2 values"), ("no_grad", "higher_order")])
def test_a_program_that_is_no_plain_classifier_is_refused(
    tmp_path: Path, kind: str, found: str
) -> None:
    path = export(tmp_path / "c.pt2", Odd(kind).eval(), random_images())
    assert found in refusal(path)


def test_images_of_another_shape_are_refused(digits_program: Program) -> None:
    with pytest.raises(InputError, match=r"not accept images of shape \(1, 9, 9\).*\(1, 8, 8\)"):
        load_base_classifier(ClassifierSpec(str(digits_program[0])), random_images(size=9))


def test_a_missing_program_is_refused(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "c.pt2")
