"""Composition of a search space from YAML files that extend each other, merged in order.

`extends` names one file or a list of them, each without `.yaml`: a file beside the one that
extends it, or one in this folder. They are merged from left to right, and the file itself comes
last:

    name: mine
    extends: [svhn, 10pct]       # svhn, and what changes at 10 % of its images
    parameters:
      width: {choices: [32]}     # replaces the earlier choices
      mix: null                  # no longer varied

- In `published`, `fixed` and `parameters`, hyperparameters are merged one by one: a later file
  replaces the whole entry of each (a range together with its `when`), and null removes the entry.
- `name`, `start`, `rungs`, `sweep`, `steps` and `radii` are replaced as a whole.
- A file that is reached twice is merged once, where it is first reached. So `[svhn, small]` is
  svhn with small's changes, although `small` extends `decrop`, as `svhn` does.

A data set and a share of shots are combined by name, without a file: `mnist-10pct` stands for
`extends: [mnist, 10pct]`. A file with such a name takes precedence.

Only the result has to be a valid space: a hyperparameter must not be both fixed and varied, for
example. A part, such as `10pct`, contains only changes, and has no `name`.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import yaml

from search_spaces.yaml_values import load_yaml

FOLDER = Path(__file__).parent
DATASETS = ("cifar10", "cifar100", "digits", "fashion_mnist", "mnist", "stl10", "svhn")
# The parts for a share of a data set's training images.
SHARES = ("1pct", "10pct")
# Shipped spaces that need no file: `mnist-10pct` extends [mnist, 10pct], for example.
COMBINATIONS = {f"{name}-{share}": (name, share) for name in DATASETS for share in SHARES}


class SpaceError(ValueError):
    """A search space that cannot be used; the message is one line that says what to do."""


def shipped_spaces() -> list[str]:
    """Names of the spaces that come with the project, sorted."""
    files = {path.stem for path in FOLDER.glob("*.yaml")}
    return sorted((files | COMBINATIONS.keys()) - {*SHARES})


def compose(name: str) -> dict[str, Any]:
    """The merged content of the shipped space `name`, or of the file `name` if it ends in .yaml.

    Whether it is a valid space is not checked yet. For example:

        >>> compose("svhn-1pct")["fixed"]
        {'flip': False}

    Raises:
        SpaceError: when a file is missing, is not a YAML mapping, or extends itself.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
    if not _exists(path):
        shipped = ", ".join(shipped_spaces())
        raise SpaceError(f"--space: {name} does not exist; pass a YAML file or one of {shipped}")
    merged = functools.reduce(_merge, _in_order(path, above=()).values())
    if "name" not in merged:
        raise SpaceError(
            f"--space: {name} has no name: a part of a space is used by extending it, as in "
            "extends: [svhn, 10pct]"
        )
    return merged


def _in_order(path: Path, above: tuple[Path, ...]) -> dict[Path, dict[str, Any]]:
    """The files that make up `path`, by resolved path, in the order in which they are merged.

    `above` are the files that extend this one, directly or through others.
    """
    content = _read(path)
    above = (*above, path.resolve())
    files: dict[Path, dict[str, Any]] = {}
    for name in _extended(content.pop("extends", None), path):
        base = _find(name, path)
        if base.resolve() in above:
            raise SpaceError(f"--space: {path} extends itself through {name}")
        # A file that was reached before keeps its place.
        files |= _in_order(base, above)
    return files | {path.resolve(): content}


def _exists(path: Path) -> bool:
    return path.is_file() or (path.parent == FOLDER and path.stem in COMBINATIONS)


def _read(path: Path) -> dict[str, Any]:
    """The content of a file, or of a combination that does not have a file."""
    if not path.is_file():
        return {"name": path.stem, "extends": [*COMBINATIONS[path.stem]]}
    try:
        content = load_yaml(path.read_text())
    except (OSError, yaml.YAMLError, ValueError) as error:
        message = " ".join(str(error).split())
        raise SpaceError(f"--space: {path} is not valid YAML: {message}") from error
    if not isinstance(content, dict):
        raise SpaceError(f"--space: {path} is not a mapping of name, published and parameters")
    return content


def _extended(extends: object, path: Path) -> list[str]:
    """The names in `extends`, a name or a list of names."""
    if extends is None:
        return []
    names = [extends] if isinstance(extends, str) else extends
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise SpaceError(f"--space: {path}: extends takes a name or a list of names; got {extends}")
    return names


def _find(name: str, path: Path) -> Path:
    """The file that `path` means by `name`: one beside it, or else a shipped one."""
    for folder in (path.parent, FOLDER):
        if _exists(file := folder / f"{name}.yaml"):
            return file
    raise SpaceError(f"--space: {path} extends {name}, which does not exist")


def _merge(base: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """`change` over `base`; mappings are merged by name, and a null removes the name."""
    merged = dict(base)
    for key, value in change.items():
        before = base.get(key, {})
        if isinstance(value, dict) and isinstance(before, dict):
            names = {**before, **value}
            merged[key] = {name: item for name, item in names.items() if item is not None}
        else:
            merged[key] = value
    return merged
