from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tests.support.classifiers import random_images
from trainables.acceleration.voting import prepared
from trainables.errors import InputError
from trainables.models.classifiers import BaseClassifier
from trainables.weights.sources import ClassifierSpec, load_base_classifier

timm: Any = pytest.importorskip("timm", reason="needs the extra timm")
hub: Any = pytest.importorskip("huggingface_hub", reason="needs the extra timm")
torch.set_num_threads(1)
NAME = "mobilenetv3_small_050"
IMAGES = random_images((3, 3, 32, 32))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and a proxy that nobody runs instead of a network."""
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    return tmp_path


def network(**options: Any) -> Any:
    torch.manual_seed(0)
    return timm.create_model(NAME, **options).eval()


def loaded(name: str = NAME, images: torch.Tensor = IMAGES, **given: Any) -> BaseClassifier:
    return load_base_classifier(ClassifierSpec(f"timm:{name}", **given), images)


def test_weights_come_from_a_file_and_the_normalisation_from_timm(tmp_path: Path) -> None:
    own = network(num_classes=3)
    torch.save({"state_dict": own.state_dict()}, tmp_path / "w.pth")
    classifier = loaded(weights=tmp_path / "w.pth")
    mean, std = (torch.tensor(own.pretrained_cfg[k]).view(1, 3, 1, 1) for k in ("mean", "std"))
    expected = own((IMAGES - mean) / std)
    assert torch.allclose(classifier(IMAGES), expected, atol=1e-5)
    assert classifier.head == "classifier"
    # Its linear layers are not PyTorch's own, and one stays in float32.
    for precision in ("float32", "bfloat16"):
        votes = prepared(classifier, (3, 32, 32), precision)(IMAGES)
        assert torch.allclose(votes, expected, atol=0.05)


def test_the_tag_of_a_name_decides_the_normalisation(tmp_path: Path) -> None:
    for tag, mean in (("in1k", 0.485), ("augreg_in21k_ft_in1k", 0.5)):
        name = f"vit_tiny_patch16_224.{tag}" if mean == 0.5 else "resnet10t"
        own = timm.create_model(name, num_classes=3)
        save_file(own.state_dict(), tmp_path / "w.safetensors")
        images = random_images((2, 3, 224, 224) if mean == 0.5 else (2, 3, 32, 32))
        classifier = loaded(name, images, weights=tmp_path / "w.safetensors")
        assert classifier.mean.flatten()[0].item() == pytest.approx(mean)


def test_channels_follow_from_the_weights(tmp_path: Path) -> None:
    torch.save(network(num_classes=4, in_chans=1).state_dict(), tmp_path / "w.pth")
    grey = IMAGES[:, :1]
    with pytest.raises(InputError, match="pass mean and std"):
        loaded(images=grey, weights=tmp_path / "w.pth")
    classifier = loaded(images=grey, weights=tmp_path / "w.pth", mean=[0.5], std=[0.5])
    assert classifier.check(grey) == 4


def test_weights_of_timm_come_from_the_cache(cache: Path) -> None:
    own = network()
    folder = cache / f"models--timm--{NAME}.lamb_in1k"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0" * 40)
    (folder / "snapshots" / ("0" * 40)).mkdir(parents=True)
    save_file(own.state_dict(), folder / "snapshots" / ("0" * 40) / "model.safetensors")
    found = loaded().network.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in own.state_dict().items())


def test_weights_that_are_not_there_are_asked_for(cache: Path) -> None:
    with pytest.raises(InputError, match=r"not on this machine; pass `download` .* `weights`$"):
        loaded()
    with pytest.raises(InputError, match=r"cannot be fetched from timm/.* `weights`$"):
        load_base_classifier(ClassifierSpec(f"timm:{NAME}"), IMAGES, download=True)


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean resnet50"):
        loaded("resnet5O")


def test_weights_of_a_different_network_are_refused(tmp_path: Path) -> None:
    torch.save(timm.create_model("resnet10t").state_dict(), tmp_path / "w.pth")
    with pytest.raises(InputError, match=f"^weights: .* do not fit {NAME}: .*missing"):
        loaded(weights=tmp_path / "w.pth")
