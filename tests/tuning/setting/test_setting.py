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


def test_few_images_get_as_many_epochs_as_make_the_steps_of_the_space(tmp_path: Path) -> None:
    space = tmp_path / "space.yaml"
    space.write_text(
        "name: long\nextends: digits\nfixed: {batch_size: null, epochs: 100}\nsteps: 300\n"
        "parameters: {batch_size: {choices: [10, 40]}}\npublished: {batch_size: 40}\n"
    )
    given = {
        "name": "x",
        "out": tmp_path,
        "shots": "5,10",
        "certify_images": 5,
        "space": str(space),
    }
    # 40 and 80 images to train: with the larger batches one or two steps an epoch.
    few, more = make_settings(make_config(given))
    assert few.steps_in_epoch == {10: 4, 40: 1}
    assert (few.epochs, more.epochs) == (300, 150)
    assert few.rungs == (38, 112, 300)
    (held,) = make_settings(make_config(given | {"shots": "5", "set": ["epochs=7"]}))
    assert held.epochs == 7
    (enough,) = make_settings(make_config(given | {"shots": "20"}))
    assert enough.epochs == 100
