"""What an export says of itself, and of the classifier that it holds or does not."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn

from results.schema import ORIGINS
from trainables.black_box.endpoint import Description, HttpClassifier
from trainables.black_box.queries import BlackBox
from trainables.models.architectures import DigitsCNN
from trainables.models.blueprint import Blueprint
from trainables.models.classifiers import BaseClassifier
from trainables.models.denoisers import DnCNN
from trainables.smoothing import SmoothedClassifier
from trainables.smoothing.export import ExportConfig, Origin, read_config
from trainables.weights.packed import CLASSIFIER
from tuning.config import make_config
from tuning.run.export import export

torch.set_num_threads(1)
NAMES = tuple(map(str, range(10)))


def test_whatever_can_win_can_be_exported() -> None:
    assert {*get_args(Origin)} == {*ORIGINS} - {"none"}


def network(blueprint: Blueprint | None) -> BaseClassifier:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return BaseClassifier(DigitsCNN(), blueprint=blueprint)


def exported(folder: Path, certified: nn.Module) -> tuple[Path, ExportConfig, list[str]]:
    """The export of a run that certified this classifier, and what the run said."""
    setting: Any = SimpleNamespace(
        name="digits-10shot",
        folder=folder,
        shots=SimpleNamespace(tuning_images=torch.zeros(2, 1, 8, 8)),
        pixel_steps=0,
        radii=(0.0, 0.5),
        dataset=SimpleNamespace(classes=NAMES),
    )
    trial = SimpleNamespace(origin="search", number=7)
    confirmed = SimpleNamespace(trial=trial, sigma=0.25)
    best: Any = SimpleNamespace(denoiser=DnCNN(1, 3, 4).eval(), confirmed=confirmed)
    access: Any = SimpleNamespace(certified=certified, fit=SimpleNamespace(facts=None))
    said: list[str] = []
    config = make_config({"name": "x", "out": folder})
    context: Any = SimpleNamespace(config=config, reporter=SimpleNamespace(say=said.append))
    export(setting, best, access, "float32", context)
    path = folder / "smoothed_classifier"
    return path, read_config(path), said


@pytest.mark.parametrize("hidden", [False, True], ids=["white box", "black box"])
def test_a_known_network_is_in_the_export_even_if_only_its_answers_were_used(
    tmp_path: Path, hidden: bool
) -> None:
    classifier = network(Blueprint("architecture", "digits_cnn"))
    path, config, said = exported(tmp_path, BlackBox(classifier) if hidden else classifier)
    assert said == []
    assert (config.trial, config.origin, config.class_names) == (7, "search", NAMES)
    assert SmoothedClassifier.load(path).predict(torch.zeros(1, 8, 8)) in range(-1, 10)


class Answering(HttpClassifier):
    """An endpoint that needs no server."""

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)[:, :10].clone()


def test_of_an_endpoint_the_address_is_kept_but_not_what_may_be_a_secret_in_it(
    tmp_path: Path,
) -> None:
    description = Description(classes=10, image_shape=(1, 8, 8), returns="logits", model="m")
    path, config, said = exported(
        tmp_path, Answering("https://x.test/model?key=s3cr3t", description)
    )
    assert (config.classifier_kind, config.classifier_name) == ("endpoint", "https://x.test/model")
    assert "s3cr3t" not in (path / "config.json").read_text()
    assert not (path / CLASSIFIER).exists()
    (told,) = said
    assert "the classifier cannot be written into smoothed_classifier" in told


def test_the_card_of_an_earlier_winner_does_not_stay(tmp_path: Path) -> None:
    card = tmp_path / "smoothed_classifier" / "README.md"
    card.parent.mkdir()
    card.write_text("of another model")
    exported(tmp_path, network(None))
    assert not card.exists()


def test_of_a_factory_its_name_is_kept(tmp_path: Path) -> None:
    _, config, said = exported(tmp_path, network(Blueprint("factory", "nets:make")))
    assert (config.classifier_kind, config.classifier_name) == ("factory", "nets:make")
    assert len(said) == 1
