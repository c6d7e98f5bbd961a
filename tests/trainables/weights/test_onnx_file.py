from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.classifiers import random_images
from tests.support.onnx_graphs import NAMES, write_graph
from trainables.acceleration.voting import prepared
from trainables.errors import InputError
from trainables.models.classifiers import BaseClassifier
from trainables.weights.sources import ClassifierSpec, load_base_classifier

onnx: Any = pytest.importorskip("onnx", reason="needs the extra onnx")
converter: Any = pytest.importorskip("onnx2pytorch", reason="needs the extra onnx")
pytest.importorskip("onnxruntime", reason="needs the extra onnx")
torch.set_num_threads(1)
IMAGES = random_images((3, 1, 8, 8))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_graph(tmp_path / "c.onnx")


def loaded(path: Path) -> BaseClassifier:
    return load_base_classifier(ClassifierSpec(str(path)), IMAGES)


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        loaded(path)
    message = str(caught.value)
    assert message.startswith(f"classifier: {path} ")
    assert "\n" not in message
    return message


def test_the_network_of_a_file_is_that_which_others_compute(path: Path) -> None:
    from onnx.reference import ReferenceEvaluator

    (expected,) = ReferenceEvaluator(str(path)).run(None, {NAMES[0]: IMAGES.numpy()})
    classifier = loaded(path)
    assert np.allclose(classifier(IMAGES).numpy(), expected, atol=1e-5)
    for precision in ("float32", "bfloat16"):
        votes = prepared(classifier, (1, 8, 8), precision)(IMAGES)
        assert np.allclose(votes.numpy(), expected, atol=0.05)


def test_it_has_gradients_and_features(path: Path) -> None:
    images = IMAGES.clone().requires_grad_(True)
    logits, features = loaded(path).logits_and_features(images)
    assert features.shape == (3, 2 * 36)
    (gradient,) = torch.autograd.grad(logits[:, 0].sum(), images)
    assert gradient.abs().sum() > 0


def test_a_file_of_another_kind_or_a_torn_one_is_refused(path: Path, tmp_path: Path) -> None:
    (tmp_path / "torn.onnx").write_bytes(path.read_bytes()[:300])
    (tmp_path / "text.onnx").write_bytes(b"some text")
    for name in ("torn.onnx", "text.onnx"):
        assert "is damaged, or is not an ONNX file" in refusal(tmp_path / name)
    assert "does not exist" in refusal(tmp_path / "absent.onnx")


def changed(path: Path, change: Callable[[Any], None]) -> Path:
    model = onnx.load(path)
    change(model.graph)
    onnx.save(model, path)
    return path


def test_a_fixed_batch_size_is_refused(path: Path) -> None:
    def fix(graph: Any) -> None:
        graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2

    assert "takes only batches of 2 images" in refusal(changed(path, fix))


def test_images_of_another_size_are_refused(path: Path) -> None:
    with pytest.raises(
        InputError, match=r"images of shape \(1, 9, 9\).* it takes \['b', 1, 8, 8\]"
    ):
        load_base_classifier(ClassifierSpec(str(path)), random_images((2, 1, 9, 9)))


def test_several_outputs_are_refused(path: Path) -> None:
    def add(graph: Any) -> None:
        graph.output.append(onnx.helper.make_tensor_value_info("/hidden", 1, ["b", 2, 6, 6]))

    assert "takes 1 tensors and returns 2" in refusal(changed(path, add))


def test_loops_are_refused(path: Path) -> None:
    value = onnx.helper.make_tensor_value_info

    def loop(graph: Any) -> None:
        nodes = [
            onnx.helper.make_node("Identity", ["go"], ["on"]),
            onnx.helper.make_node("Identity", ["before"], ["after"]),
        ]
        inputs = [value("i", 7, []), value("go", 9, []), value("before", 1, ["b", 72])]
        outputs = [value("on", 9, []), value("after", 1, ["b", 72])]
        body = onnx.helper.make_graph(nodes, "body", inputs, outputs)
        node = onnx.helper.make_node("Loop", ["", "", NAMES[3]], ["/looped"], body=body)
        graph.node.append(node)

    assert "uses the operator Loop" in refusal(changed(path, loop))


def test_a_conversion_that_computes_something_else_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Wrong(converter.ConvertModel):  # type: ignore[misc]
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = 1.01 * super().forward(images)
            return logits

    monkeypatch.setattr(converter, "ConvertModel", Wrong)
    assert "logits in PyTorch that differ by" in refusal(path)
