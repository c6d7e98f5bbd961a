"""A setting: a data set at a shot count, its images, its search space and its place on disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from search_spaces import SearchSpace
from trainables.data.datasets import Dataset, load_dataset
from trainables.data.splits import Shots, certification_indices, draw_shots
from trainables.decrop.config import DecropConfig
from trainables.errors import InputError
from trainables.smoothing.noise import derive_seed
from tuning.config import RunConfig, choose_space, setting_name


@dataclass(frozen=True)
class Setting:
    """What one study works on; `test_images` [n, C, H, W] are for certification alone."""

    name: str
    dataset: Dataset
    shots: Shots
    test_indices: list[int]
    test_images: Tensor
    space: SearchSpace
    folder: Path

    @property
    def epochs(self) -> int:
        """Epochs of a full trial."""
        return DecropConfig.model_validate(self.space.constants).epochs

    @property
    def rungs(self) -> tuple[int, ...]:
        """Epochs after which trials are compared; the last one ends a trial."""
        inner = {max(1, round(share * self.epochs)) for share in self.space.rungs}
        return (*sorted(r for r in inner if r < self.epochs), self.epochs)


def make_settings(config: RunConfig) -> list[Setting]:
    """All settings of a run, with their images loaded and checked.

    Raises:
        InputError: for data that is missing, too small or of the wrong shape.
        ConfigError: for a bad space.
    """
    pairs = [(dataset, shots) for dataset in config.dataset for shots in config.shots]
    return [_make(config, dataset, shots) for dataset, shots in pairs]


def _make(config: RunConfig, name: str, shots: str) -> Setting:
    space = choose_space(config, name, shots)
    dataset = load_dataset(name, config.data_dir)
    # Checked now, so that nothing is written or computed for a run that could not end.
    indices = certification_indices(dataset, config.certify_images)
    test_images = dataset.test.load(indices)
    drawn = draw_shots(dataset, shots, derive_seed(config.seed, "shots"))
    if test_images.shape[1:] != drawn.train_images.shape[1:]:
        raise InputError(
            f"--data-dir: test images have the shape {tuple(test_images.shape[1:])}, but training "
            f"images {tuple(drawn.train_images.shape[1:])}; make them alike"
        )
    setting = setting_name(name, shots)
    return Setting(
        name=setting,
        dataset=dataset,
        shots=drawn,
        test_indices=indices,
        test_images=test_images,
        space=space,
        folder=config.run_folder / setting,
    )
