"""Which images a run works on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, field_validator

from trainables.choices import DATASETS
from trainables.command import Flag
from trainables.data.shots import ShotCount
from tuning.config.lists import Names, NamesOrFile, ShotCounts


class DataConfig(BaseModel, frozen=True, extra="forbid"):
    """Data sets and shots."""

    dataset: Annotated[Names, Flag("NAME[,NAME]")] = Field(
        ("digits",),
        min_length=1,
        description=f"{', '.join(DATASETS[:-1])} or {DATASETS[-1]}; with several data sets or shot "
        "counts, each combination gets its own study",
    )
    data_dir: Annotated[Path | None, Flag("DIR", default="the cache")] = Field(
        None, description="where the data is; a folder holds train/CLASS/IMAGE and "
        "test/CLASS/IMAGE, or only CLASS/IMAGE",
    )  # fmt: skip
    class_order: Annotated[
        NamesOrFile | None, Flag("NAME,...|FILE.txt", default="by name, as text")
    ] = Field(
        None,
        description="the classes in the order of the classifier's outputs: all names, a text file "
        "with one in a line, or natural, for numbers in names to count as numbers",
    )
    download: bool = Field(
        False,
        description="fetch the data set, or published weights of the classifier, if they are not "
        "there",
    )
    shots: Annotated[ShotCounts, Flag("N|P%[,...]")] = Field(
        (ShotCount("10"),),
        min_length=1,
        description="labelled images per class: a number, or a percentage such as 1%",
    )

    @field_validator("dataset")
    @classmethod
    def _known_dataset(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if name not in DATASETS:
                raise ValueError(f"{name!r} is unknown; choose from {', '.join(DATASETS)}")
        return value


def setting_name(dataset: str, shots: ShotCount) -> str:
    """The name of a setting, for example `digits-10shot` or `digits-5pct`."""
    return f"{dataset}-{shots.label}"
