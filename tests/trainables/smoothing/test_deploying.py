"""What docs/deploying.md shows runs as it is written."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from tests.support.exports import SHAPE, linear_classifier, trained_denoiser
from trainables.models.architectures import DigitsCNN
from trainables.models.blueprint import Blueprint
from trainables.models.classifiers import BaseClassifier
from trainables.smoothing.exporting import export_files
from trainables.smoothing.noise import Noise
from trainables.smoothing.procedures import Fixed

torch.set_num_threads(1)
PAGE = Path(__file__).parents[3] / "docs/deploying.md"
NETWORKS = """
from tests.support.exports import linear_classifier


def make():
    return linear_classifier(seed=5)
"""


def run(place: int, classifier: BaseClassifier) -> dict[str, Any]:
    """What a block of the page leaves, run beside an export of `classifier` and an image."""
    model = nn.Sequential(trained_denoiser(), classifier)
    numbers = Fixed(20, 200, 0.001)
    folder = Path("smoothed_classifier")
    folder.mkdir()
    for name, data in export_files(model, SHAPE, Noise(0.25), numbers).items():
        (folder / name).write_bytes(data)
    Image.fromarray(np.full((4, 4), 99, np.uint8)).save("three.png")
    block = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)[place]
    left: dict[str, Any] = {}
    exec(block, left)
    return left


def test_an_export_is_loaded_and_certifies_an_image_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    network = DigitsCNN()
    known = BaseClassifier(network, blueprint=Blueprint("architecture", "digits_cnn"))
    certificate = run(0, known)["certificate"]
    assert capsys.readouterr().out.split()[-1] == str(certificate.radius)


def test_a_classifier_that_is_not_in_the_export_is_passed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "my_networks.py").write_text(NETWORKS)
    torch.save(linear_classifier().state_dict(), "weights.pt")
    of_factory = BaseClassifier(linear_classifier(), blueprint=Blueprint("factory", "x:y"))
    assert run(1, of_factory)["model"].predict(torch.zeros(SHAPE)) in range(-1, 3)
