from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.support.programs import Program, export, first, node, random_images, refusal, tamper
from trainables.torch_internals import is_operator
from trainables.weights.exported import load_exported
from trainables.weights.exported_operators import find_operator, known_operators
from trainables.weights.sources import ClassifierSpec, load_base_classifier

torch.set_num_threads(1)

UNKNOWN = [
    "_sparse_csr_tensor_unsafe.default", "_sparse_coo_tensor_unsafe.default", "to_dense.default",
    "set_.source_Storage_storage_offset", "resize_.default", "as_strided_.default", "add.out",
    "_embedding_bag.default", "embedding_renorm_.default", "rand.default", "bernoulli.default",
    "empty.memory_format", "nonzero.default", "quantize_per_tensor.default", "_pin_memory.default",
    "_foreach_add.Scalar", "_unsafe_masked_index.default", "_thnn_fused_lstm_cell.default",
    "record_stream.default", "_local_scalar_dense.default", "item.default", "_cudnn_rnn.default",
    "cudnn_convolution.default",
]  # fmt: skip


def test_all_known_operators_exist() -> None:
    assert all(is_operator(find_operator(target)) for target in known_operators())


@pytest.mark.parametrize("operator", UNKNOWN)
def test_operators_that_no_classifier_needs_are_refused_by_name(
    tmp_path: Path, digits_program: Program, operator: str
) -> None:
    path = tamper(digits_program[0], tmp_path / "c.pt2", first(node(f"aten.{operator}")))
    assert f"'aten.{operator}', which is not run from a file" in refusal(path)


class Standardised(nn.Module):
    """Normalises its weights, as NFNets do, by an operator that otherwise acts as in training."""

    def __init__(self, images: bool) -> None:
        super().__init__()
        self.conv, self.head, self.images = nn.Conv2d(1, 4, 3), nn.Linear(4, 3), images

    def forward(self, images: Tensor) -> Tensor:
        weight = self.conv.weight
        flat = F.batch_norm(weight.reshape(1, 4, -1), None, None, training=True)
        if self.images:
            images = F.batch_norm(images, None, None, training=True)
        logits: Tensor = self.head(F.conv2d(images, flat.reshape_as(weight)).amax((2, 3)))
        return logits


@pytest.mark.parametrize("decomposed", [False, True])
def test_only_weights_may_be_normalised_by_their_own_statistics(
    tmp_path: Path, decomposed: bool
) -> None:
    path, images = tmp_path / "c.pt2", random_images()
    network = Standardised(False).eval()
    export(path, network, images, decomposed=decomposed)
    assert torch.allclose(load_exported(path)(images), network(images), atol=1e-5)
    export(path, Standardised(True).eval(), images, decomposed=decomposed)
    assert "training mode" in refusal(path)


class Attention(nn.Module):
    """A small vision transformer with what newer networks add: gates, and resized images."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.position = nn.Conv2d(1, 12, 4, 4), nn.Parameter(torch.zeros(1, 16, 12))
        self.mixed, self.out, self.head = nn.Linear(12, 36), nn.Linear(12, 24), nn.Linear(12, 3)
        self.norm = nn.GroupNorm(3, 12)

    def forward(self, images: Tensor) -> Tensor:
        large = F.interpolate(images, scale_factor=2, mode="bilinear")
        tokens = self.patches(large).flatten(2).transpose(1, 2) + self.position
        split = self.mixed(tokens).unflatten(2, (3, 2, 6)).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(*split.unbind(0)).transpose(1, 2).flatten(2)
        gate, value = self.out(seen).chunk(2, -1)
        pooled = self.norm((tokens + F.silu(gate) * value).transpose(1, 2)).mean(2)
        logits: Tensor = self.head(F.normalize(pooled))
        return logits


class Shuffled(nn.Module):
    """Grouped convolutions, shuffles, squeeze and excitation, and every usual kind of pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.deep = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(4, 4, 3, 1, 1, groups=4)
        self.squeeze, self.norm, self.head = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(8), nn.Linear(8, 3)
        self.scale = nn.LayerNorm([8, 4, 4])

    def forward(self, images: Tensor) -> Tensor:
        found = F.hardswish(self.norm(self.first(F.pad(images, (1, 1, 1, 1), mode="reflect"))))
        left, right = F.channel_shuffle(F.max_pool2d(found, 3, 2, 1)[:, :, :4, :4], 2).chunk(2, 1)
        gate = F.hardsigmoid(self.squeeze(F.adaptive_avg_pool2d(right, 1)))
        deep = F.leaky_relu(self.deep(left)) * gate + torch.roll(right, 1, 2)
        joined = self.scale(torch.cat([deep, F.avg_pool2d(left, 3, 1, 1)], 1))
        weights = torch.softmax(joined.flatten(2), -1)
        logits: Tensor = self.head(torch.einsum("bcp,bcp->bc", weights, joined.flatten(2)))
        return logits


@pytest.mark.parametrize("decomposed", [False, True])
@pytest.mark.parametrize("kind", [Attention, Shuffled])
def test_the_operators_of_usual_networks_are_known(
    tmp_path: Path, kind: Callable[[], nn.Module], decomposed: bool
) -> None:
    torch.manual_seed(0)
    network, images = kind().eval(), random_images()
    path = export(tmp_path / "c.pt2", network, images, decomposed=decomposed)
    classifier = load_base_classifier(ClassifierSpec(str(path)), images)
    assert torch.allclose(classifier(random_images(5)), network(random_images(5)), atol=1e-5)
