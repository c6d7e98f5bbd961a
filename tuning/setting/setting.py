"""A setting: a data set at a shot count, with its images, its search space and its folder."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from search_spaces import SearchSpace
from search_spaces.space import Value
from trainables.choices import DEFAULT_RADII, objective_radii
from trainables.data.datasets import Dataset, load_dataset
from trainables.data.shots import ShotCount
from trainables.data.splits import HeldOutImages, Shots, draw_shots, held_out_images
from trainables.decrop.config import DecropConfig
from trainables.decrop.training import steps_in_epoch
from trainables.errors import InputError
from trainables.smoothing.bounds import certified_radius
from trainables.smoothing.noise import derive_seed
from trainables.smoothing.quantised import steps_of
from trainables.weights.denoiser_file import load_denoiser, read_denoiser
from tuning.config import RunConfig, setting_name
from tuning.setting.space import choose_space


@dataclass(frozen=True)
class Setting:
    """What one study works on; `test` is only for certification.

    `initial` is the trained denoiser from which every trial starts, if the user named one.
    Certificates are made with noise rounded to multiples of 1 / `pixel_steps`; 0 stands for
    Gaussian noise. `radii` are those that its users care about.
    """

    name: str
    dataset: Dataset
    shots: Shots
    test: HeldOutImages
    space: SearchSpace
    initial: bytes | None
    pixel_steps: int
    radii: tuple[float, ...]
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

    @property
    def steps_in_epoch(self) -> dict[int, int]:
        """Training steps of an epoch, by batch size, the smallest batches first."""
        return _steps_in_epoch(self.space, len(self.shots.train_labels))


def make_settings(config: RunConfig) -> list[Setting]:
    """All settings of a run, with their images loaded and checked.

    Raises:
        InputError: for data that is missing, too small or of the wrong shape.
        ConfigError: for a bad space.
    """
    # A name given twice is one setting.
    datasets = [
        load_dataset(
            name,
            config.data_dir,
            download=config.download,
            form=config,
            class_order=config.class_order,
        )
        for name in dict.fromkeys(config.dataset)
    ]
    shot_counts = dict.fromkeys(config.shots)
    return [_make(config, dataset, shots) for dataset in datasets for shots in shot_counts]


def _make(config: RunConfig, dataset: Dataset, shots: ShotCount) -> Setting:
    # Checked now, so that nothing is written or computed for a run that could not finish.
    test = held_out_images(dataset, config.certify_images)
    drawn = draw_shots(dataset, shots, derive_seed(config.seed, "shots"))
    if test.images.shape[1:] != drawn.train_images.shape[1:]:
        raise InputError(
            f"test images have the shape {tuple(test.images.shape[1:])}, but training "
            f"images {tuple(drawn.train_images.shape[1:])}; give them the same shape",
            field="data_dir",
        )
    owned = len(drawn.train_labels) + len(drawn.tuning_labels)
    space = choose_space(config, dataset.name, shots, owned / len(dataset.train.labels))
    initial = None
    if config.init_denoiser is not None:
        initial = read_denoiser(config.init_denoiser)
        space = space.holding(_fitting(initial, drawn.train_images))
    if "epochs" not in config.set:
        space = _long_enough(space, len(drawn.train_labels))
    radii = config.radii or space.radii or DEFAULT_RADII
    _check_radii(config, space, radii)
    setting = setting_name(dataset.name, shots)
    return Setting(
        name=setting,
        dataset=dataset,
        shots=drawn,
        test=test,
        space=space,
        initial=initial,
        pixel_steps=steps_of(config.noise, dataset, test),
        radii=radii,
        folder=config.run_folder / setting,
    )


def _long_enough(space: SearchSpace, images: int) -> SearchSpace:
    """The space with so many epochs that every trial takes at least the steps it asks for."""
    epochs = DecropConfig.model_validate(space.constants).epochs
    needed = -(-space.steps // min(_steps_in_epoch(space, images).values()))
    return space if needed <= epochs else space.holding({"epochs": needed})


def _steps_in_epoch(space: SearchSpace, images: int) -> dict[int, int]:
    config = DecropConfig.model_validate(space.named)
    varied = space.parameters.get("batch_size")
    sizes = [config.batch_size] if varied is None else sorted(int(s) for s in varied.corners())
    return {
        size: steps_in_epoch(config.model_copy(update={"batch_size": size}), images)
        for size in sizes
    }


def _check_radii(config: RunConfig, space: SearchSpace, radii: tuple[float, ...]) -> None:
    """Refuse radii that the votes cannot prove, even if all of them are for the right class."""
    limit = certified_radius(config.n, config.n, space.largest_sigma, config.alpha)
    for name, named in (("radii", radii), ("objective", objective_radii(config.objective) or ())):
        if named and named[-1] > limit:
            raise InputError(
                f"{named[-1]:g} is more than {config.n} votes can prove at any sigma of the space "
                f"{space.name}; the largest provable radius is {math.floor(1000 * limit) / 1000:g}",
                field=name,
            )


def _fitting(initial: bytes, images: Tensor) -> dict[str, Value]:
    """The hyperparameters of a trained denoiser, which a search can then no longer vary."""
    spec = load_denoiser(initial).spec
    channels, found = images.shape[1], spec.pop("channels")
    if found != channels:
        raise InputError(
            f"it takes images of {found} channels, but the data set's have {channels}",
            field="init_denoiser",
        )
    return {"denoiser": spec.pop("architecture"), **spec}
