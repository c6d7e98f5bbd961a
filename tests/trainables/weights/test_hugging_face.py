from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.classifiers import random_images
from tests.support.trap import Trap
from trainables.errors import InputError
from trainables.models.classifiers import BaseClassifier
from trainables.weights.sources import ClassifierSpec, load_base_classifier

transformers: Any = pytest.importorskip("transformers", reason="needs the extra huggingface")
torch.set_num_threads(1)
IMAGES = random_images((3, 3, 16, 16))


@pytest.fixture
def network() -> Any:
    torch.manual_seed(0)
    return transformers.ViTForImageClassification(configuration()).eval()


def configuration() -> Any:
    return transformers.ViTConfig(
        image_size=16, patch_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16, num_labels=3,
    )  # fmt: skip


def loaded(folder: Path | str, **given: Any) -> BaseClassifier:
    return load_base_classifier(ClassifierSpec(f"hf:{folder}", **given), IMAGES)


def write(folder: Path, network: Any, **values: Any) -> Path:
    network.save_pretrained(folder)
    transformers.ViTImageProcessor(**values).save_pretrained(folder)
    return folder


def test_a_folder_is_loaded_with_the_normalisation_of_its_processor(
    tmp_path: Path, network: Any
) -> None:
    write(tmp_path, network, image_mean=[0.1, 0.2, 0.3], image_std=[0.4, 0.5, 0.6])
    classifier = loaded(tmp_path)
    images = (IMAGES - torch.tensor([0.1, 0.2, 0.3]).view(1, 3, 1, 1)) / torch.tensor(
        [0.4, 0.5, 0.6]
    ).view(1, 3, 1, 1)
    logits, features = classifier.logits_and_features(IMAGES)
    assert torch.allclose(logits, network(images).logits, atol=1e-5)
    assert features.shape == (3, 8)
    assert torch.equal(loaded(tmp_path, mean=[0.5], std=[0.5]).mean.flatten(), torch.tensor([0.5]))


@pytest.mark.parametrize(
    ("values", "mean", "std"),
    [
        ({"do_normalize": False}, 0.0, 1.0),
        ({"do_normalize": False, "do_rescale": False}, 0.0, 1 / 255),
        ({"rescale_factor": 1 / 127.5, "image_mean": [1.0] * 3, "image_std": [1.0] * 3}, 0.5, 0.5),
    ],
)
def test_pixels_are_scaled_as_the_processor_does(
    tmp_path: Path, network: Any, values: dict[str, Any], mean: float, std: float
) -> None:
    classifier = loaded(write(tmp_path, network, **values))
    assert classifier.mean.flatten()[0].item() == pytest.approx(mean)
    assert classifier.std.flatten()[0].item() == pytest.approx(std)


def test_half_precision_is_loaded_as_float32(tmp_path: Path, network: Any) -> None:
    classifier = loaded(write(tmp_path, network.bfloat16()))
    assert {p.dtype for p in classifier.parameters()} == {torch.float32}


def test_a_normalisation_that_is_not_known_is_asked_for(tmp_path: Path, network: Any) -> None:
    network.save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"no preprocessor_config.json .* pass `mean` and `std`$"):
        loaded(tmp_path)
    assert loaded(tmp_path, mean=[0.5], std=[0.5]).probe(IMAGES) == (3, 8)


def test_another_preparation_of_images_is_refused(tmp_path: Path) -> None:
    config = transformers.MobileViTConfig(image_size=32, num_labels=3)
    transformers.MobileViTForImageClassification(config).save_pretrained(tmp_path)
    transformers.MobileViTImageProcessor().save_pretrained(tmp_path)
    with pytest.raises(InputError, match="do_flip_channel_order, which is not supported"):
        loaded(tmp_path)


def test_a_network_without_a_trained_head_is_refused(tmp_path: Path) -> None:
    write(tmp_path, transformers.ViTModel(configuration()))
    with pytest.raises(InputError, match=r"no weights for 'classifier.(bias|weight)'"):
        loaded(tmp_path)


def test_nothing_is_unpickled(tmp_path: Path, network: Any) -> None:
    write(tmp_path, network)
    (tmp_path / "model.safetensors").unlink()
    torch.save({"classifier.weight": Trap(tmp_path / "sentinel")}, tmp_path / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"no file named model\.safetensors"):
        loaded(tmp_path)
    assert not (tmp_path / "sentinel").exists()


def test_what_is_not_there_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    with pytest.raises(InputError, match=r"nor in the cache .* pass `download` to fetch it"):
        loaded("nobody/nothing")


def test_images_of_another_size_are_refused(tmp_path: Path, network: Any) -> None:
    write(tmp_path, network)
    with pytest.raises(InputError, match=r"does not accept images of shape \(3, 24, 24\)"):
        load_base_classifier(ClassifierSpec(f"hf:{tmp_path}"), random_images((2, 3, 24, 24)))
