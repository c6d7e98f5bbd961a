"""Classifiers as safetensors files: every kind is read back as it was, and nothing else is read."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor, nn

from tests.support.brought import (
    convolution,
    exported,
    hugging_face,
    images_of,
    onnx,
    timm,
    torchvision,
)
from tests.support.onnx_graphs import write_graph
from tests.support.programs import random_images
from trainables.errors import InputError
from trainables.models.architectures import Architecture, CifarResNet, DigitsCNN
from trainables.models.blueprint import Blueprint
from trainables.models.classifiers import BaseClassifier
from trainables.weights.checkpoint import load_classifier, save_classifier, weights_hash
from trainables.weights.denoiser_file import metadata_of
from trainables.weights.packed import CLASSIFIER, classifier_bytes, load_packed
from trainables.weights.sources import ClassifierSpec, load_base_classifier

torch.set_num_threads(1)
IMAGES, _ = images_of(1, seed=0)
Kind = Callable[[Path], ClassifierSpec]


def packed(classifier: BaseClassifier) -> bytes:
    data = classifier_bytes(classifier)
    assert data is not None
    return data


def header(data: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(metadata_of(data)["classifier"])
    return found


def rewritten(data: bytes, **changes: Any) -> bytes:
    return save_safetensors(
        load_safetensors(data), {"classifier": json.dumps(header(data) | changes)}
    )


def same(one: BaseClassifier, other: BaseClassifier, images: Tensor) -> bool:
    logits = torch.equal(one(images), other(images))
    heads = (one.head, one.feature_layer) == (other.head, other.feature_layer)
    return logits and heads and weights_hash(one) == weights_hash(other)


@pytest.fixture
def digits(tmp_path: Path) -> BaseClassifier:
    torch.manual_seed(0)
    save_classifier(tmp_path / "c.pt", "digits_cnn", DigitsCNN(), (0.25,), (0.5,))
    return load_classifier(tmp_path / "c.pt")


@pytest.mark.parametrize("kind", [torchvision, exported, timm, hugging_face, onnx])
def test_a_classifier_is_read_back_without_what_it_came_from(kind: Kind, tmp_path: Path) -> None:
    original = load_base_classifier(kind(tmp_path), IMAGES)
    data = packed(original)
    for file in tmp_path.iterdir():
        file.unlink()
    again = load_packed(data, IMAGES)
    assert same(original, again, images_of(3, seed=9)[0])
    # In particular not where it was.
    assert str(tmp_path).encode() not in data


@pytest.mark.parametrize("feature_layer", [None, "8"])
def test_a_checkpoint_keeps_its_normalisation_and_features(
    tmp_path: Path, digits: BaseClassifier, feature_layer: str | None
) -> None:
    spec = ClassifierSpec(str(tmp_path / "c.pt"), feature_layer=feature_layer)
    original = load_base_classifier(spec, random_images())
    assert same(original, load_packed(packed(original), random_images()), random_images())


@pytest.mark.parametrize("projection", [False, True])
def test_a_cifar_resnet_keeps_its_kind_of_shortcuts(tmp_path: Path, projection: bool) -> None:
    save_classifier(tmp_path / "c.pt", "cifar_resnet20", CifarResNet(3, projection=projection))
    original, images = load_classifier(tmp_path / "c.pt"), torch.rand(2, 3, 32, 32)
    original.fix_head(images)
    assert same(original, load_packed(packed(original), images), images)


class Converting(DigitsCNN):
    """Converts its input if it is told to, as two networks of torchvision do."""

    transform_input = False

    def forward(self, images: Tensor) -> Tensor:
        given = 1 - images if self.transform_input else images
        logits: Tensor = super().forward(given)  # type: ignore[no-untyped-call]
        return logits


@pytest.mark.parametrize("converts", [False, True])
def test_networks_that_convert_the_normalisation_still_do(
    monkeypatch: pytest.MonkeyPatch, converts: bool
) -> None:
    found = Architecture(lambda channels, classes: Converting(classes, channels), (0.0,), (1.0,))
    monkeypatch.setattr("trainables.weights.packed.find_architecture", lambda name: found)
    network = Converting().eval()
    network.transform_input = converts
    details = json.dumps({"transform_input": True} if converts else {})
    original = BaseClassifier(network, blueprint=Blueprint("architecture", "googlenet", details))
    original.fix_head(random_images())
    assert same(original, load_packed(packed(original), random_images()), random_images())


def test_a_graph_of_onnx_loses_what_its_exporter_noted(tmp_path: Path) -> None:
    library: Any = pytest.importorskip("onnx", reason="needs the extra onnx")
    model = library.load(write_graph(tmp_path / "plain.onnx"))
    model.doc_string = "from /home/ann/secret.py"
    model.graph.node[0].doc_string = "File /home/ann/secret.py"
    library.helper.set_model_props(model, {"trace": "/home/ann/secret.py"})
    library.save(model, tmp_path / "c.onnx")
    spec = ClassifierSpec(str(tmp_path / "c.onnx"))
    original = load_base_classifier(spec, random_images())
    data = packed(original)
    assert b"secret" not in data
    assert same(original, load_packed(data, random_images()), random_images())


def test_a_program_loses_its_examples_and_stack_traces(tmp_path: Path) -> None:
    data = packed(load_base_classifier(exported(tmp_path), IMAGES))
    steps = header(data)["details"]["program"]["graph_module"]["graph"]["nodes"]
    assert {key for step in steps for key in step} == {"target", "inputs", "outputs"}
    weights = sum(t.numel() for t in load_safetensors(data).values())
    assert weights == 3 * (IMAGES[0].numel() + 1) + 2


def test_weights_that_share_their_memory_are_written_twice(tmp_path: Path) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.other = nn.Linear(768, 768), nn.Linear(768, 768)
            self.other.weight = self.one.weight
            self.head = nn.Linear(768, 3)

        def forward(self, images: Tensor) -> Tensor:
            logits: Tensor = self.head(self.other(self.one(images.flatten(1))))
            return logits

    shapes = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(Tied().eval(), (IMAGES,), dynamic_shapes=shapes)
    torch.export.save(program, tmp_path / "c.pt2")
    original = load_base_classifier(ClassifierSpec(str(tmp_path / "c.pt2")), IMAGES)
    assert same(original, load_packed(packed(original), IMAGES), IMAGES)


@pytest.mark.parametrize("kind", [convolution, None])
def test_what_only_its_own_code_can_build_is_not_written(kind: Kind | None, tmp_path: Path) -> None:
    if kind is None:
        assert classifier_bytes(BaseClassifier(DigitsCNN())) is None
    else:
        assert classifier_bytes(load_base_classifier(kind(tmp_path), IMAGES)) is None


def test_an_export_is_a_source_of_classifiers(tmp_path: Path, digits: BaseClassifier) -> None:
    digits.fix_head(random_images())
    (tmp_path / CLASSIFIER).write_bytes(packed(digits))
    spec = ClassifierSpec(str(tmp_path))
    assert same(load_base_classifier(spec, random_images()), digits, random_images())
    for field, value in (("weights", Path("w.pt")), ("mean", (0.5,)), ("feature_layer", "8")):
        changed = ClassifierSpec(str(tmp_path), **{field: value})  # type: ignore[arg-type]
        with pytest.raises(InputError, match=f"{field}: the classifier in .* leave it out"):
            load_base_classifier(changed, random_images())


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "factory", "name": "os:getcwd"},
        {"kind": "pickle"},
        {"name": "resnet18"},
        {"name": "no_such_network"},
        {"name": 7},
        {"kind": "timm", "name": "hf-hub:somebody/something"},
        {"kind": "timm", "name": "resnet10t"},
        {"kind": "transformers", "details": {"model_type": "vit", "hidden_size": 10**6}},
        {"kind": "transformers", "details": {"model_type": "nothing"}},
        {"kind": "transformers"},
        {"kind": "program", "details": {}},
        {"kind": "program", "details": {"program": {"schema_version": {"major": 0}}}},
        {"kind": "onnx"},
        {"feature_layer": "nowhere"},
        {"unknown": 1},
    ],
    ids=str,
)
def test_a_file_that_claims_something_else_is_refused_in_one_line(
    digits: BaseClassifier, changes: dict[str, Any]
) -> None:
    data = rewritten(packed(digits), **changes)
    with pytest.raises(InputError) as told:
        load_packed(data, random_images())
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("length", [0, 7, 100, 2000, -1])
def test_a_file_that_ends_early_is_refused(digits: BaseClassifier, length: int) -> None:
    with pytest.raises(InputError, match=f"{CLASSIFIER} is damaged"):
        load_packed(packed(digits)[:length], random_images())


def test_a_few_bytes_do_not_claim_a_huge_network(digits: BaseClassifier) -> None:
    tensors = load_safetensors(packed(digits))
    small = {name: tensors[name] for name in ("mean", "std")}
    small["network.14.bias"] = torch.zeros(10**6)
    data = save_safetensors(small, {"classifier": metadata_of(packed(digits))["classifier"]})
    with pytest.raises(InputError, match=r"1000000 classes .* take \d+ weights"):
        load_packed(data, random_images())


def test_a_program_with_another_operator_is_refused(tmp_path: Path) -> None:
    data = packed(load_base_classifier(exported(tmp_path), IMAGES))
    details = header(data)["details"]
    nodes = details["program"]["graph_module"]["graph"]["nodes"]
    nodes[0]["target"] = "torch.ops.aten.from_file.default"
    with pytest.raises(InputError, match="from_file"):
        load_packed(rewritten(data, details=details), IMAGES)
