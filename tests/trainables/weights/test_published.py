"""Checkpoints in the layouts in which others publish them."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from trainables.data.datasets import load_dataset
from trainables.errors import InputError
from trainables.models.architectures import (
    ARCHITECTURES,
    CifarResNet,
    find_architecture,
    torchvision_models,
)
from trainables.models.classifiers import BaseClassifier
from trainables.weights.checkpoint import load_classifier, network_for, read_weights
from trainables.weights.sources import ClassifierSpec, load_base_classifier
from trainables.weights.state_dicts import unwrapped

torch.set_num_threads(1)
DATA = Path(__file__).resolve().parents[3].parent / "shared" / "data"
RESNET20 = DATA / "classifiers" / "cifar10_resnet20.pth.tar"

CIFAR_MEAN, CIFAR_STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def random_images(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def published_weights(
    blocks: int, shortcut: str = "downsample", head: str = "fc", classes: int = 10
) -> dict[str, Tensor]:
    """Random weights of a ResNet for CIFAR with projections, by their published names."""
    generator = torch.Generator().manual_seed(1)
    weights: dict[str, Tensor] = OrderedDict()

    def convolution(name: str, inputs: int, outputs: int, kernel: int) -> None:
        noise = torch.randn(outputs, inputs, kernel, kernel, generator=generator)
        weights[f"{name}.weight"] = noise * (1 / (inputs * kernel**2)) ** 0.5

    def normalisation(name: str, width: int) -> None:
        for part in ("weight", "bias", "running_mean", "running_var"):
            weights[f"{name}.{part}"] = torch.rand(width, generator=generator) + 0.5
        weights[f"{name}.num_batches_tracked"] = torch.tensor(7)

    convolution("conv1", 3, 16, 3)
    normalisation("bn1", 16)
    inputs = 16
    for stage, outputs in enumerate((16, 32, 64), start=1):
        for block in range(blocks):
            name = f"layer{stage}.{block}"
            convolution(f"{name}.conv1", inputs, outputs, 3)
            normalisation(f"{name}.bn1", outputs)
            convolution(f"{name}.conv2", outputs, outputs, 3)
            normalisation(f"{name}.bn2", outputs)
            if inputs != outputs:
                convolution(f"{name}.{shortcut}.0", inputs, outputs, 1)
                normalisation(f"{name}.{shortcut}.1", outputs)
            inputs = outputs
    weights[f"{head}.weight"] = torch.randn(classes, 64, generator=generator) / 8
    weights[f"{head}.bias"] = torch.randn(classes, generator=generator)
    return weights


def published_logits(
    weights: dict[str, Tensor], images: Tensor, shortcut: str, head: str
) -> Tensor:
    """What these weights mean: images [n, 3, 32, 32], already normalised -> logits."""

    def normalise(name: str, hidden: Tensor) -> Tensor:
        scale, bias, mean, variance = (
            weights[f"{name}.{part}"].view(1, -1, 1, 1)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        return (hidden - mean) / torch.sqrt(variance + 1e-5) * scale + bias

    def convolve(name: str, hidden: Tensor, stride: int = 1) -> Tensor:
        kernel = weights[f"{name}.weight"]
        return F.conv2d(hidden, kernel, stride=stride, padding=kernel.shape[-1] // 2)

    hidden = torch.relu(normalise("bn1", convolve("conv1", images)))
    names = [n.removesuffix(".conv1.weight") for n in weights if n.endswith(".conv1.weight")]
    for name in names:
        stride = 2 if f"{name}.{shortcut}.0.weight" in weights else 1
        inner = torch.relu(normalise(f"{name}.bn1", convolve(f"{name}.conv1", hidden, stride)))
        inner = normalise(f"{name}.bn2", convolve(f"{name}.conv2", inner))
        if stride == 2:
            hidden = normalise(
                f"{name}.{shortcut}.1", convolve(f"{name}.{shortcut}.0", hidden, stride)
            )
        hidden = torch.relu(inner + hidden)
    pooled = F.avg_pool2d(hidden, 8).flatten(1)
    return pooled @ weights[f"{head}.weight"].T + weights[f"{head}.bias"]


def standardised(
    images: Tensor, mean: tuple[float, ...] = CIFAR_MEAN, std: tuple[float, ...] = CIFAR_STD
) -> Tensor:
    shape = (1, -1, 1, 1)
    numbers = (images.double().numpy() - np.reshape(mean, shape)) / np.reshape(std, shape)
    return torch.from_numpy(numbers).float()


def prefixed(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return OrderedDict((prefix + name, tensor) for name, tensor in weights.items())


@pytest.mark.parametrize(
    ("arch", "blocks", "prefix"),
    [
        *(("cifar_resnet20", 3, prefix) for prefix in ("1.", "1.module.", "module.1.", "")),
        ("cifar_resnet56", 9, "1."),
        ("cifar_resnet110", 18, "1."),
    ],
)
def test_the_classifiers_of_cohen_et_al_load_with_their_normalisation(
    tmp_path: Path, arch: str, blocks: int, prefix: str
) -> None:
    weights = published_weights(blocks)
    checkpoint = {
        "epoch": 90,
        "arch": arch,
        "state_dict": prefixed(weights, prefix),
        "optimizer": torch.optim.SGD([torch.zeros(2)], lr=0.1, momentum=0.9).state_dict(),
    }
    torch.save(checkpoint, tmp_path / "checkpoint.pth.tar")
    classifier = load_classifier(tmp_path / "checkpoint.pth.tar")
    images = random_images(4, 3, 32, 32)
    expected = published_logits(weights, standardised(images), "downsample", "fc")
    with torch.inference_mode():
        assert torch.allclose(classifier(images), expected, atol=1e-4, rtol=1e-4)
    assert classifier.probe(images) == (10, 64)


def test_projections_by_another_name_load_with_the_normalisation_of_that_code(
    tmp_path: Path,
) -> None:
    weights = published_weights(3, "shortcut", "linear", classes=7)
    torch.save({"arch": "cifar_resnet20", "state_dict": weights}, tmp_path / "c.pt")
    classifier = load_classifier(tmp_path / "c.pt")
    images = random_images(3, 3, 32, 32)
    seen = standardised(images, IMAGENET_MEAN, IMAGENET_STD)
    with torch.inference_mode():
        expected = published_logits(weights, seen, "shortcut", "linear")
        assert torch.allclose(classifier(images), expected, atol=1e-4, rtol=1e-4)


def test_weights_from_before_batch_norm_counted_batches_load(tmp_path: Path) -> None:
    weights = published_weights(3)
    old = {name: t for name, t in weights.items() if not name.endswith("num_batches_tracked")}
    for number, content in enumerate((weights, old)):
        torch.save({"arch": "cifar_resnet20", "state_dict": content}, tmp_path / f"{number}.pt")
    images = random_images(2, 3, 32, 32)
    new, same = (load_classifier(tmp_path / f"{number}.pt")(images) for number in (0, 1))
    assert torch.equal(new, same)


def test_a_published_checkpoint_that_lacks_a_weight_is_refused(tmp_path: Path) -> None:
    weights = published_weights(3)
    del weights["layer2.0.downsample.0.weight"]
    torch.save({"arch": "cifar_resnet20", "state_dict": weights}, tmp_path / "c.pt")
    with pytest.raises(InputError, match=r"^[^\n]*do not fit \w+: 'layer2\S* is missing$"):
        load_classifier(tmp_path / "c.pt")


@pytest.mark.parametrize("prefix", ["1.module.", ""])
def test_architectures_of_torchvision_are_known_by_name(tmp_path: Path, prefix: str) -> None:
    torch.manual_seed(0)
    network = torchvision_models().resnet18(num_classes=6).eval()
    state = prefixed(network.state_dict(), prefix)
    torch.save({"arch": "resnet18", "epoch": 1, "state_dict": state}, tmp_path / "c.pt")
    classifier = load_classifier(tmp_path / "c.pt")
    images = random_images(2, 3, 40, 40)
    expected = network(standardised(images, IMAGENET_MEAN, IMAGENET_STD))
    assert torch.allclose(classifier(images), expected, atol=1e-5)
    assert classifier.probe(images) == (6, 512)


@pytest.mark.parametrize(("channels", "classes"), [(1, 2), (1, 10), (2, 3), (3, 2), (3, 100)])
@pytest.mark.parametrize("arch", ["digits_cnn", "cifar_resnet20"])
def test_channels_and_classes_follow_from_the_weights(
    arch: str, channels: int, classes: int
) -> None:
    built = ARCHITECTURES[arch].build(channels, classes).eval()
    # In the order of the names, because safetensors files do not keep that of the layers.
    weights = dict(sorted(built.state_dict().items()))
    network = network_for(ARCHITECTURES[arch].build, weights).eval()
    images = random_images(2, channels, 12, 12)
    assert network(images).shape == (2, classes)
    assert torch.equal(network(images), built(images))


@pytest.mark.parametrize(
    "arch", ["resnet18", "mobilenet_v3_small", "squeezenet1_1", "regnet_y_400mf", "mnasnet0_5"]
)
@pytest.mark.parametrize("classes", [2, 7])
def test_the_classes_follow_from_the_weights_of_torchvision(arch: str, classes: int) -> None:
    architecture = find_architecture(arch)
    assert architecture is not None
    weights = architecture.build(3, classes).state_dict()
    assert network_for(architecture.build, weights).eval()(random_images(2, 3, 32, 32)).shape == (
        2,
        classes,
    )


@pytest.mark.parametrize("size", [8, 28])
def test_a_grey_classifier_of_any_size_loads_through_the_front_door(
    tmp_path: Path, size: int
) -> None:
    for arch in ("digits_cnn", "cifar_resnet20"):
        network = ARCHITECTURES[arch].build(1, 5).eval()
        torch.save(
            {"arch": arch, "state_dict": network.state_dict(), "mean": [0.2], "std": [0.4]},
            tmp_path / "c.pt",
        )
        images = random_images(3, 1, size, size)
        classifier = load_base_classifier(ClassifierSpec(str(tmp_path / "c.pt")), images)
        assert torch.allclose(classifier(images), network((images - 0.2) / 0.4), atol=1e-6)


def test_the_normalisation_is_that_of_the_flags_then_of_the_file_then_of_the_architecture(
    tmp_path: Path,
) -> None:
    images = random_images(2, 3, 16, 16)
    checkpoint = {"arch": "cifar_resnet20", "state_dict": CifarResNet(3).state_dict()}
    own = {"mean": torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1), "std": (0.5, 0.6, 0.7)}
    torch.save(checkpoint, tmp_path / "plain.pt")
    torch.save(checkpoint | own, tmp_path / "own.pt")

    def normalisation(name: str, **flags: tuple[float, ...]) -> list[float]:
        found: BaseClassifier = load_base_classifier(
            ClassifierSpec(str(tmp_path / name), mean=flags.get("mean"), std=flags.get("std")),
            images,
        )
        return [*found.mean.flatten().tolist(), *found.std.flatten().tolist()]

    assert normalisation("plain.pt") == pytest.approx([*IMAGENET_MEAN, *IMAGENET_STD])
    assert normalisation("own.pt") == pytest.approx([0.1, 0.2, 0.3, 0.5, 0.6, 0.7])
    assert normalisation("own.pt", mean=(0.4,)) == pytest.approx([0.4, 0.5, 0.6, 0.7])
    assert normalisation("own.pt", mean=(0.4,), std=(0.1, 0.2, 0.3)) == pytest.approx(
        [0.4, 0.1, 0.2, 0.3]
    )


@pytest.mark.parametrize("layout", ["bare", "nested", "parallel", "safetensors"])
def test_weights_are_read_from_every_layout(tmp_path: Path, layout: str) -> None:
    weights = CifarResNet(3).state_dict()
    path = tmp_path / ("w.safetensors" if layout == "safetensors" else "w.pt")
    if layout == "safetensors":
        save_file(weights, path)
    else:
        plain = prefixed(weights, "module." if layout == "parallel" else "")
        torch.save(plain if layout == "bare" else {"state_dict": plain, "epoch": 1}, path)
    found, _ = unwrapped(read_weights(path).tensors, weights)
    assert set(found) == set(weights)
    assert all(torch.equal(found[name], weights[name]) for name in weights)


@pytest.mark.skipif(not RESNET20.is_file(), reason="the CIFAR-10 checkpoint is absent")
def test_the_shared_resnet20_recognises_most_real_images_through_the_front_door() -> None:
    test = load_dataset("folder", DATA / "cifar10").test
    indices = list(range(0, len(test.labels), len(test.labels) // 300))
    images = test.load(indices)
    classifier = load_base_classifier(ClassifierSpec(str(RESNET20)), images[:2])
    with torch.inference_mode():
        right = (classifier(images).argmax(1) == test.labels[indices]).float().mean()
    assert right > 0.85
    assert isinstance(classifier.network, nn.Module)
    assert classifier.probe(images[:2]) == (10, 64)
