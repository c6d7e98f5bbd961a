from pathlib import Path

import torch

from trainables.data.datasets import load_dataset
from tuning.config import make_config
from tuning.setting.setting import make_settings


def test_a_setting_learns_from_training_images_and_is_certified_on_test_images(
    tmp_path: Path,
) -> None:
    config = make_config({"name": "x", "out": tmp_path, "shots": "5", "certify_images": 20})
    (setting,) = make_settings(config)
    digits, (shots, labels, indices) = load_dataset("digits"), setting.shots.joined()
    assert torch.equal(shots, digits.train.load(indices))
    assert torch.equal(labels, digits.train.labels[indices])
    assert setting.test.indices == list(range(0, 500, 25))
    assert torch.equal(setting.test.images, digits.test.load(setting.test.indices))
    assert torch.equal(setting.test.labels, digits.test.labels[setting.test.indices])
    # Whatever their positions are: none of them is a shot.
    assert torch.cdist(setting.test.images.flatten(1), shots.flatten(1)).min() > 0.1
