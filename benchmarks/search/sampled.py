"""Random configurations of a space, and the file that keeps what came of each."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna

from search_spaces import load_space
from search_spaces.yaml_values import load_yaml

Row = dict[str, Any]
Point = dict[str, Any]


def add_flags(
    arguments: argparse.ArgumentParser, *, dataset: str, shots: str, space: str, configurations: int
) -> None:
    """Add the flags that say what is trained, with these defaults, and where rows are kept."""
    arguments.add_argument("--dataset", default=dataset)
    arguments.add_argument("--data-dir", type=Path)
    arguments.add_argument("--classifier", type=Path)
    arguments.add_argument("--shots", default=shots)
    arguments.add_argument("--space", default=space)
    arguments.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    arguments.add_argument("--configurations", type=int, default=configurations)
    arguments.add_argument("--workers", type=int, default=2)
    arguments.add_argument("--out", type=Path, required=True, help="raw rows, one a line")


def sampled(
    options: argparse.Namespace, seed: int, wanted: Callable[[int, Point], bool] | None = None
) -> list[Point]:
    """Random points of the space, with the values of --set held.

    `wanted` is asked whether a point may have the place that comes next.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    fixed = {name: load_yaml(value) for name, value in (s.split("=") for s in options.set)}
    space = load_space(options.space, fixed)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    found: list[Point] = []
    while len(found) < options.configurations:
        point = dict(space.suggest(study.ask()))
        if wanted is not None and not wanted(len(found), point):
            continue
        if any(point[name] for name in ("w_label", "w_mse", "w_cosine", "w_mmd")):
            found.append(point)
    return found


def kept_rows(path: Path) -> list[Row]:
    """The rows in the file; its folder is made if it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]


def keep(path: Path, row: Row) -> None:
    """Add a row to the file."""
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")
