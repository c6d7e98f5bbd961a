"""Classifiers of every kind that people bring, right on most images of a small folder.

The images are 3 x 16 x 16: each of three classes has a pattern, and an image is its pattern with a
little noise.
"""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from tests.support.onnx_graphs import write_linear
from trainables.models.architectures import IMAGENET, torchvision_models
from trainables.weights.sources import ClassifierSpec

CLASSES = ("ant", "bee", "cat")
SIZE = 16


def patterns() -> Tensor:
    """The patterns [class, 3, SIZE, SIZE] in [0, 1]."""
    generator = torch.Generator().manual_seed(7)
    return torch.randint(40, 216, (3, 3, SIZE, SIZE), generator=generator) / 255


def images_of(each: int, seed: int) -> tuple[Tensor, Tensor]:
    """So many images of each class, and their labels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(3).repeat_interleave(each)
    noise = 0.03 * torch.randn(3 * each, 3, SIZE, SIZE, generator=generator)
    return (patterns()[labels] + noise).clamp(0, 1), labels


def write_images(folder: Path) -> Path:
    """The images as train/CLASS/IMAGE and test/CLASS/IMAGE."""
    for seed, (part, each) in enumerate((("train", 8), ("test", 4))):
        images, labels = images_of(each, seed)
        for index, (image, label) in enumerate(zip(images, labels, strict=True)):
            path = folder / part / CLASSES[label] / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = (255 * image.permute(1, 2, 0)).round().numpy().astype(np.uint8)
            Image.fromarray(pixels).save(path)
    return folder


def linear() -> nn.Sequential:
    """Nearest pattern."""
    flat = patterns().flatten(1)
    head = nn.Linear(flat.shape[1], 3)
    with torch.no_grad():
        head.weight.copy_(2 * flat)
        head.bias.copy_(-(flat**2).sum(1))
    return nn.Sequential(nn.Flatten(), head)


class Convolutional(nn.Module):
    """Nearest pattern by a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, 3, SIZE)
        (weight, bias) = linear()[1].parameters()
        with torch.no_grad():
            self.head.weight.copy_(weight.view_as(self.head.weight))
            self.head.bias.copy_(bias)  # type: ignore[union-attr]

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(images).flatten(1)
        return logits


class Rounded(nn.Module):
    """Nearest pattern with weights in bfloat16, as an object with logits."""

    def __init__(self) -> None:
        super().__init__()
        self.net = linear().bfloat16()

    def forward(self, images: Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=self.net(images.bfloat16()).float())


def trained(network: Any, mean: Any, std: Any, steps: int = 60) -> Any:
    """`network` after a little training on noisy images that are normalised."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.5
    adam = torch.optim.Adam(network.train().parameters(), 2e-3)
    images, labels = images_of(10, seed=2)
    shift, scale = (torch.tensor(values).view(1, -1, 1, 1) for values in (mean, std))
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        noisy = images + 0.15 * torch.randn(images.shape, generator=generator)
        answer = network((noisy - shift) / scale)
        loss = nn.functional.cross_entropy(getattr(answer, "logits", answer), labels)
        adam.zero_grad()
        loss.backward()
        adam.step()
    return network.eval()


def convolution(folder: Path) -> ClassifierSpec:
    content = {"model": {f"_orig_mod.{n}": t for n, t in Convolutional().state_dict().items()}}
    torch.save(content, folder / "w.pth")
    return ClassifierSpec("tests.support.brought:Convolutional", weights=folder / "w.pth")


def rounded(folder: Path) -> ClassifierSpec:
    return ClassifierSpec("tests.support.brought:Rounded")


def torchvision(folder: Path) -> ClassifierSpec:
    torch.manual_seed(0)
    network = trained(torchvision_models().shufflenet_v2_x0_5(num_classes=3), *IMAGENET)
    torch.save({"state_dict": nn.DataParallel(network).state_dict()}, folder / "w.pth")
    return ClassifierSpec("torchvision:shufflenet_v2_x0_5", weights=folder / "w.pth")


def exported(folder: Path) -> ClassifierSpec:
    shapes = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(linear().eval(), (images_of(1, 0)[0],), dynamic_shapes=shapes)
    torch.export.save(program, folder / "c.pt2")
    return ClassifierSpec(str(folder / "c.pt2"))


def timm(folder: Path) -> ClassifierSpec:
    library: Any = pytest.importorskip("timm", reason="needs the extra timm")
    torch.manual_seed(0)
    network = trained(library.create_model("resnet10t", num_classes=3), *IMAGENET, steps=15)
    torch.save(network.state_dict(), folder / "w.pth")
    return ClassifierSpec("timm:resnet10t", weights=folder / "w.pth")


def hugging_face(folder: Path) -> ClassifierSpec:
    library: Any = pytest.importorskip("transformers", reason="needs the extra huggingface")
    torch.manual_seed(0)
    config = library.ViTConfig(
        image_size=SIZE, patch_size=4, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, num_labels=3,
    )  # fmt: skip
    network = library.ViTForImageClassification(config)
    trained(network, [0.5] * 3, [0.25] * 3).save_pretrained(folder)
    processor = library.ViTImageProcessor(image_mean=[0.5] * 3, image_std=[0.25] * 3)
    processor.save_pretrained(folder)
    return ClassifierSpec(f"hf:{folder}")


def onnx(folder: Path) -> ClassifierSpec:
    for library in ("onnx", "onnx2pytorch", "onnxruntime"):
        pytest.importorskip(library, reason="needs the extra onnx")
    (weight, bias) = (p.detach().numpy() for p in linear()[1].parameters())
    return ClassifierSpec(str(write_linear(folder / "c.onnx", (3, SIZE, SIZE), weight, bias)))


KINDS: tuple[Callable[[Path], ClassifierSpec], ...] = (
    convolution, rounded, torchvision, exported, timm, hugging_face, onnx,
)  # fmt: skip
