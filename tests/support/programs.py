"""Exported programs, and how they are refused."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import torch
from torch import Tensor, nn

from trainables.errors import InputError
from trainables.weights.exported import load_exported

# The file of a program, and the network that it was exported from.
Program: TypeAlias = tuple[Path, nn.Module]
# A change to the description of a program.
Edit: TypeAlias = Callable[[dict[str, Any]], None]


def random_images(count: int = 3, channels: int = 1, size: int = 8) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(count, channels, size, size, generator=generator)


def with_statistics(network: nn.Module) -> nn.Module:
    """The network with batch norms that do not just scale by one."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 1.5)  # type: ignore[arg-type]
    return network.eval()


def export(
    path: Path,
    network: nn.Module,
    images: Tensor,
    *,
    decomposed: bool = False,
    most: int | None = None,
    dynamic: bool = True,
) -> Path:
    shapes = ({0: torch.export.Dim("batch", max=most)},) if dynamic else None
    program = torch.export.export(network, (images,), dynamic_shapes=shapes)
    torch.export.save(program.run_decompositions() if decomposed else program, path)
    return path


def refusal(path: Path, feature: str | None = None) -> str:
    with pytest.raises(InputError) as caught:
        load_exported(path, feature)
    message = str(caught.value)
    assert "\n" not in message
    return message


def tamper(
    path: Path,
    to: Path,
    edit: Edit,
    files: dict[str, bytes] | None = None,
    weights: Edit = lambda _: None,
) -> Path:
    """A copy of the program in `path` whose graph `edit` has changed, with other `files`.

    `weights` changes the description of its weights, by their names.
    """
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(to, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            inner = name.partition("/")[2]
            if inner == "models/model.json":
                program = json.loads(data)
                edit(program)
                data = json.dumps(program).encode()
            elif inner == "data/weights/model_weights_config.json":
                config = json.loads(data)
                weights(config["config"])
                data = json.dumps(config).encode()
            new.writestr(f"{to.stem}/{inner}", (files or {}).get(inner, data))
    return to


def nodes(program: dict[str, Any]) -> list[dict[str, Any]]:
    """The serialised steps of a program."""
    found: list[dict[str, Any]] = program["graph_module"]["graph"]["nodes"]
    return found


def first(*steps: dict[str, Any]) -> Edit:
    """A change that inserts serialised steps before all others."""
    return lambda program: nodes(program).__setitem__(slice(0, 0), steps)


def node(target: str, output: str | list[str] = "made", **inputs: Any) -> dict[str, Any]:
    """A serialised step; inputs are numbers, lists of them, or names of values with a leading @."""
    named = {"name": output} if isinstance(output, str) else [{"name": name} for name in output]
    return {
        "target": f"torch.ops.{target}" if target.startswith("aten.") else target,
        "inputs": [{"name": n, "arg": _argument(v), "kind": 1} for n, v in inputs.items()],
        "outputs": [{"as_tensor" if isinstance(output, str) else "as_tensors": named}],
        "metadata": {},
    }


def _argument(value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    if isinstance(value, str) and value.startswith("@"):
        return {"as_tensor": {"name": value[1:]}}
    kinds = {bool: "as_bool", int: "as_int", float: "as_float", str: "as_string"}
    if isinstance(value, list):
        return {f"{kinds[type(value[0])]}s": value}
    return {kinds[type(value)]: value}
