from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from tests.support.trap import Trap
from trainables.errors import InputError
from trainables.models.architectures import DigitsCNN, torchvision_models
from trainables.models.classifiers import BaseClassifier
from trainables.weights.checkpoint import save_classifier, weights_hash
from trainables.weights.sources import ClassifierSpec, load_base_classifier

torch.set_num_threads(1)
ROOT = Path(__file__).resolve().parents[3]

FACTORY = """
import torch
from torch import nn


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(16, 3)
        self.body = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.AdaptiveAvgPool2d(2)
        )

    def forward(self, images):
        return self.linear(self.body(images).flatten(1))


def make():
    torch.manual_seed(3)
    return Network().train()


class nested:
    make = Network


def number():
    return 3


def broken():
    raise RuntimeError("no\\nluck")


def leaves():
    raise SystemExit(1)


def needs(argument):
    return Network()
"""


def random_images(count: int = 4, channels: int = 1, size: int = 8) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(count, channels, size, size, generator=generator)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current directory that holds the package `own` with the module `networks`."""
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "__init__.py").write_text("")
    (tmp_path / "own" / "networks.py").write_text(FACTORY)
    (tmp_path / "own" / "fails.py").write_text("import nothing_of_that_name")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p and p != str(tmp_path)])
    for name in [n for n in sys.modules if n.partition(".")[0] == "own"]:
        monkeypatch.delitem(sys.modules, name)
    return tmp_path


def refusal(spec: str, images: Tensor | None = None, **options: object) -> str:
    with pytest.raises(InputError) as caught:
        load_base_classifier(
            ClassifierSpec(spec, **options),  # type: ignore[arg-type]
            random_images() if images is None else images,
        )
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_torchvision_networks_take_weights_from_a_file(tmp_path: Path, suffix: str) -> None:
    torch.manual_seed(0)
    network = torchvision_models().resnet18(num_classes=6).eval()
    nn.init.uniform_(network.layer1[0].bn1.running_mean)
    path = tmp_path / f"w{suffix}"
    if suffix == ".pt":
        torch.save({"state_dict": nn.DataParallel(network).state_dict()}, path)
    else:
        save_file(network.state_dict(), path)
    images = random_images(3, 3, 40)
    classifier = load_base_classifier(ClassifierSpec("torchvision:resnet18", weights=path), images)
    mean, std = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    channels = [(images[:, c] - mean[c]) / std[c] for c in range(3)]
    logits, features = classifier.logits_and_features(images)
    assert torch.allclose(logits, network(torch.stack(channels, 1)), atol=1e-5)
    expected = F.linear(features, network.fc.weight, network.fc.bias)
    assert torch.allclose(logits, expected, atol=1e-5)
    plain = load_base_classifier(
        ClassifierSpec("torchvision:resnet18", weights=path, mean=[0.0], std=[1.0]), images
    )
    assert torch.allclose(plain(images), network(images), atol=1e-5)


def test_published_densenets_are_read_by_their_old_names(tmp_path: Path) -> None:
    network = torchvision_models().densenet121(num_classes=3).eval()
    old = {
        re.sub(r"(denselayer\d+\.[a-z]+)([12])", r"\1.\2", name): tensor
        for name, tensor in network.state_dict().items()
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    torch.save(old, tmp_path / "w.pt")
    spec = ClassifierSpec("torchvision:densenet121", weights=tmp_path / "w.pt")
    found = load_base_classifier(spec, random_images(2, 3, 32)).network.state_dict()
    assert all(torch.equal(found[name], t) for name, t in network.state_dict().items())


def test_an_unknown_network_of_torchvision_is_refused_with_the_nearest() -> None:
    assert "did you mean resnet50" in refusal("torchvision:resnet5O")
    assert "'digits_cnn'" in refusal("torchvision:digits_cnn")


def test_weights_that_cannot_be_fetched_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    # A proxy that nobody runs, so that the test reaches no network where there is one.
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    message = refusal("torchvision:resnet18", random_images(2, 3, 32))
    assert "pass `download`" in message
    with pytest.raises(InputError, match=r"cannot fetch .* pass a file of them as `weights`"):
        load_base_classifier(
            ClassifierSpec("torchvision:resnet18"), random_images(2, 3, 32), download=True
        )


def test_a_factory_is_imported_from_the_current_directory(folder: Path) -> None:
    images = random_images()
    classifier = load_base_classifier(ClassifierSpec("own.networks:make", std=[0.5]), images)
    assert str(folder) in sys.path
    assert classifier.probe(images) == (3, 16)
    _, features = classifier.logits_and_features(images)
    network = classifier.network
    assert torch.equal(features, network.body(images / 0.5).flatten(1))  # type: ignore[operator]
    load_base_classifier(ClassifierSpec("own.networks:nested.make"), images)


def test_a_factory_imported_by_a_command_needs_no_installation(folder: Path) -> None:
    script = (
        "import torch;"
        "from trainables.weights.sources import ClassifierSpec, load_base_classifier as load;"
        "images = torch.rand(2, 1, 8, 8);"
        "print(load(ClassifierSpec('own.networks:make'), images).probe(images))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, env=environment, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "(3, 16)"


def test_the_weights_of_a_factory_are_read_from_a_file(folder: Path) -> None:
    images = random_images()
    first = load_base_classifier(ClassifierSpec("own.networks:make"), images)
    state = {name: tensor + 1 for name, tensor in first.network.state_dict().items()}
    torch.save(state, folder / "w.pt")
    second = load_base_classifier(
        ClassifierSpec("own.networks:make", weights=folder / "w.pt"), images
    )
    assert all(torch.equal(t, state[n]) for n, t in second.network.state_dict().items())


@pytest.mark.parametrize(
    ("factory", "found"),
    [
        ("own.networks:number", "returns a int, not a torch.nn.Module"),
        ("own.networks:broken", "RuntimeError: no"),
        ("own.networks:leaves", "SystemExit: 1"),
        ("own.networks:needs", "TypeError"),
        ("own.networks:absent", "AttributeError"),
        ("own.fails:make", "No module named 'nothing_of_that_name'"),
        ("own.absent:make", "No module named 'own.absent'"),
    ],
)
def test_a_factory_that_fails_is_refused(folder: Path, factory: str, found: str) -> None:
    message = refusal(factory)
    assert message.startswith(f"classifier: {factory} ")
    assert found in message


@pytest.mark.parametrize("spec", ["own.networks:make", "torchvision:resnet18"])
def test_weights_that_do_not_fit_are_refused(folder: Path, spec: str) -> None:
    torch.save(DigitsCNN().state_dict(), folder / "w.pt")
    message = refusal(spec, weights=folder / "w.pt")
    assert message.startswith("weights: ")
    assert "do not fit" in message
    assert "does not exist" in refusal(spec, weights=folder / "absent.pt")


@pytest.mark.parametrize(
    "content", [[1], {"state_dict": {"a": 3}}, {"epoch": 3}, {}, torch.zeros(2)], ids=repr
)
def test_files_without_weights_are_refused(folder: Path, content: object) -> None:
    torch.save(content, folder / "w.pt")
    assert "holds no state dict" in refusal("own.networks:make", weights=folder / "w.pt")


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
@pytest.mark.parametrize(
    "data",
    [b"", b"some text\n", bytes(range(256)), b"PK\x03\x04" + bytes(60)],
    ids=["empty", "text", "bytes", "half a zip"],
)
def test_foreign_files_of_weights_are_refused(folder: Path, name: str, data: bytes) -> None:
    (folder / name).write_bytes(data)
    message = refusal("own.networks:make", weights=folder / name)
    assert message.startswith(f"weights: {folder / name} ")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("spec", ["own.networks:make", "torchvision:resnet18"])
def test_weights_that_would_execute_code_are_refused_and_execute_nothing(
    folder: Path, spec: str, zipped: bool
) -> None:
    for name, sentinel in (("control", True), ("sentinel", False)):
        trap = {"state_dict": {"linear.weight": Trap(folder / name)}}
        torch.save(trap, folder / "w.pt", _use_new_zipfile_serialization=zipped)
        if sentinel:
            torch.load(folder / "w.pt", weights_only=False)
        else:
            assert "could execute code" in refusal(spec, weights=folder / "w.pt")
        assert (folder / name).exists() == sentinel


@pytest.mark.parametrize("name", ["c.pt", "c.pt2"])
def test_files_with_their_own_weights_take_no_others(tmp_path: Path, name: str) -> None:
    message = refusal(str(tmp_path / name), weights=tmp_path / "w.pt")
    assert message.startswith("weights: ")


@pytest.mark.parametrize("field", ["mean", "std"])
def test_a_normalisation_for_other_channels_is_refused(tmp_path: Path, field: str) -> None:
    save_classifier(tmp_path / "c.pt", "digits_cnn", DigitsCNN(4))
    message = refusal(str(tmp_path / "c.pt"), None, **{field: [0.5, 0.5, 0.5]})
    assert message == (
        f"{field}: 3 values, but the images have 1 channels; pass 1, or `channels` 3 "
        "for a network that takes RGB"
    )


def test_a_classifier_is_tried_before_it_is_given(tmp_path: Path) -> None:
    save_classifier(tmp_path / "c.pt", "cifar_resnet20", DigitsCNN(), [0.0], [1.0])
    assert "do not fit" in refusal(str(tmp_path / "c.pt"))
    save_classifier(tmp_path / "c.pt", "digits_cnn", DigitsCNN())
    assert "takes grey images" in refusal(str(tmp_path / "c.pt"), random_images(2, 3))
    assert "(2, 8, 8)" in refusal(str(tmp_path / "c.pt"), random_images(2, 2))
    assert "did you mean" in refusal(str(tmp_path / "c.pt"), feature_layer="33")


def factory_network(folder: Path) -> BaseClassifier:
    return load_base_classifier(ClassifierSpec("own.networks:make"), random_images())


def torchvision_network(folder: Path) -> BaseClassifier:
    torch.save(torchvision_models().resnet18(num_classes=3).state_dict(), folder / "w.pt")
    return load_base_classifier(
        ClassifierSpec("torchvision:resnet18", weights=folder / "w.pt"), random_images(2, 3, 32)
    )


def exported_network(folder: Path) -> BaseClassifier:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(72, 3))
    shapes = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(network.eval(), (random_images(),), dynamic_shapes=shapes)
    torch.export.save(program, folder / "c.pt2")
    return load_base_classifier(ClassifierSpec(str(folder / "c.pt2")), random_images())


@pytest.mark.parametrize("kind", [factory_network, torchvision_network, exported_network])
def test_a_classifier_of_any_kind_is_frozen(folder: Path, kind: object) -> None:
    classifier: BaseClassifier = kind(folder)  # type: ignore[operator]
    images = random_images(4, 3, 32) if kind is torchvision_network else random_images(4)
    before = weights_hash(classifier)
    nn.Sequential(classifier).train()
    images.requires_grad_(True)
    logits, features = classifier.train().logits_and_features(images)
    (logits.square().sum() + features.sum()).backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0
    assert torch.equal(classifier(images), logits)
    # Each image is classified alone: neither dropout nor statistics of the batch.
    assert torch.allclose(classifier(images[:1]), logits[:1], atol=1e-5)
    assert weights_hash(classifier) == before
    assert all(p.grad is None and not p.requires_grad for p in classifier.parameters())
    assert not any(module.training for module in classifier.modules())
