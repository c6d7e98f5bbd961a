"""Which search space a setting gets, and whether its hyperparameters exist."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from pydantic import ValidationError

from search_spaces import SearchSpace, SpaceError, load_space, shipped_spaces
from trainables.data.shots import ShotCount
from trainables.decrop.config import DecropConfig
from trainables.errors import nearest
from tuning.config import RunConfig, setting_name
from tuning.errors import ConfigError
from tuning.study.samplers import check_sampler

# A data set's spaces for 1 % and 10 % are for at least these shares of its training images.
BANDS = {"-10pct": 0.05, "-1pct": 0.005}


def choose_space(config: RunConfig, dataset: str, shots: ShotCount, share: float) -> SearchSpace:
    """The space named by --space, or the most specific one shipped for the data set.

    `share` is the share of the training images that are shots.

    Raises:
        ConfigError: for a space that is missing or invalid, or that names a hyperparameter that
            does not exist or cannot have such a value.
    """
    # First, so that it is not blamed on the space.
    _typed_point(config.set, "--set")
    name = config.space
    if name is None:
        band = next((band for band, least in BANDS.items() if share >= least), "")
        candidates = (setting_name(dataset, shots), dataset + band, dataset, "decrop")
        name = next(c for c in candidates if c in shipped_spaces())
    try:
        space = load_space(name, config.set)
    except SpaceError as error:
        raise ConfigError(str(error)) from error
    space = _typed(space)
    try:
        DecropConfig.model_validate(space.named)
    except ValidationError as error:
        # What is wrong with a single value was found before.
        message = error.errors()[0]["msg"].removeprefix("Value error, ")
        where = "--set" if config.set else f"--space: {space.name}: published"
        raise ConfigError(f"{where}: {message}") from error
    check_sampler(config.sampler, space, config.pareto)
    return space


def _check_names(names: Iterable[str], where: str) -> None:
    for name in names:
        if name not in DecropConfig.model_fields:
            near = nearest(name, DecropConfig.model_fields)
            raise ConfigError(f"{where}: hyperparameter {name} is unknown{near}")


def _typed_value(name: str, value: Any, where: str) -> Any:
    """The value in the type of its hyperparameter."""
    # 1e2 is a float to YAML.
    if DecropConfig.model_fields[name].annotation is int and isinstance(value, float):
        value = int(value) if value.is_integer() else value
    try:
        # Strict, because the text '1' is not a number to a sampler or to a table.
        return getattr(DecropConfig.model_validate({name: value}, strict=True), name)
    except ValidationError as error:
        message = error.errors()[0]["msg"]
        raise ConfigError(f"{where}: {name}: {message}; got {value!r}") from error


def _typed_point(point: Mapping[str, Any], where: str) -> dict[str, Any]:
    _check_names(point, where)
    return {name: _typed_value(name, value, where) for name, value in point.items()}


def _typed(space: SearchSpace) -> SearchSpace:
    """The space with each value in the type of its hyperparameter: 1.0 where a file has 1.

    Everything that it may propose is then valid.
    """
    where = f"--space: {space.name}"
    typed = partial(_typed_value, where=where)
    _check_names(space.parameters, where)
    if "epochs" in space.parameters:
        raise ConfigError(f"{where}: epochs cannot vary; move them to fixed")
    content = space.model_dump()
    for point in (content["published"], content["fixed"], *content["start"]):
        point.update(_typed_point(point, where))
    for name, parameter in content["parameters"].items():
        if parameter["choices"] is not None:
            parameter["choices"] = [typed(name, choice) for choice in parameter["choices"]]
        else:
            parameter |= {end: typed(name, parameter[end]) for end in ("low", "high")}
        if parameter["or_zero"]:
            typed(name, 0)
        for other, allowed in parameter["when"].items():
            if allowed != "nonzero":
                parameter["when"][other] = [typed(other, value) for value in allowed]
    return SearchSpace.model_validate(content)
