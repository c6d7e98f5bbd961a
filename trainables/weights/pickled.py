"""Files of `torch.save` from elsewhere: read only if that takes about as much memory as the file.

`weights_only=True` keeps a file from executing code, but not from filling the memory, or from
taking forever: it may ask for a terabyte in twenty bytes.
"""

from __future__ import annotations

import functools
import io
import pickle
import pickletools
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import torch
from torch import Tensor

from trainables.errors import InputError
from trainables.torch_internals import REBUILDING
from trainables.weights.archives import open_archive

# What state dicts are made of, and what else is in checkpoints of training. Less than PyTorch
# allows: functions that make large objects out of small arguments are left out.
_CALLED = {
    "collections OrderedDict",
    "collections Counter",
    "builtins set",
    "__builtin__ set",
    "torch Size",
    "torch device",
    *REBUILDING,
}
_DTYPES = {f"torch {name}" for name, value in vars(torch).items() if type(value) is torch.dtype}
NO_WEIGHTS = "is no part of weights"
# The deepest nesting, and the number of objects where each counts as often as it is reached.
_DEPTH, _OBJECTS = 100, 10**6
# How often the same tensor may be saved under different names, which takes no space in the file.
_SHARED = 8
_SMALL = 2**20


@dataclass(slots=True)
class _Object:
    """An object that a pickle makes: what it holds, how deep, and how long it is as a string.

    `total` counts all that is within it, as often as it is reached.
    """

    parts: list[_Object]
    length: int = 0
    depth: int = 1
    total: int = 1

    def add(self, parts: list[_Object]) -> None:
        self.parts += parts
        self.depth = max(self.depth, 1 + max((part.depth for part in parts), default=0))
        self.total += sum(part.total for part in parts)

    def work(self) -> int:
        """How long a call with these arguments takes, as a number of objects."""
        return 1 + len(self.parts) + sum(len(part.parts) + part.length for part in self.parts)


def load_pickled(path: Path, field: str) -> object:
    """What `torch.save` wrote to `path`, on the CPU; the file cannot execute code.

    Errors name the `field`.

    Raises:
        InputError: when reading the file would take much more memory than it has bytes.
        pickle.UnpicklingError: when it holds more than weights.
        Exception: of almost any kind, when it is damaged.
    """
    try:
        zipped = _check_pickles(path)
        # Mapped, so that no tensor reaches beyond the file; older files cannot be.
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
        _check_content(content, path.stat().st_size)
    except InputError as error:
        raise InputError(f"{path} {error}", field=field) from error
    return content


def _check_pickles(path: Path) -> bool:
    """Check all pickles of a file before they are read; returns whether it is an archive."""
    with path.open("rb") as file:
        if file.read(4) != b"PK\x03\x04":
            file.seek(0)
            # Before archives: three facts about the file, the content, and its tensors' keys.
            for _ in range(5):
                _check_pickle(file)
            return False
    with open_archive(path) as archive:
        members = archive.infolist()
        if any(member.filename.endswith("/constants.pkl") for member in members):
            raise ValueError("TorchScript programs hold code")
        if any(member.compress_type or member.compress_size != member.file_size
               for member in members):  # fmt: skip
            raise InputError("is compressed, which torch.save never does; save it again with it")
        for member in members:
            # PyTorch finds it in any case.
            if member.filename.lower().endswith("data.pkl"):
                _check_pickle(io.BytesIO(archive.read(member)))
    return True


def _check_pickle(data: IO[bytes]) -> None:
    """Follow the pickle in `data` without making its objects.

    Calls take as long as their arguments are large, and an argument that was made once can be used
    again for a few bytes.
    """
    stack: list[_Object | None] = []  # None is a mark
    memo: dict[object, _Object] = {}
    called = 0
    for count, (code, argument, _) in enumerate(pickletools.genops(data)):
        if code.name == "GLOBAL":
            _check_global(str(argument))
        if code.name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = _top(stack)
        elif code.name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif code.name == "MARK":
            stack.append(None)
        else:
            parts = _pop(stack, code)
            if code.name in ("REDUCE", "NEWOBJ", "BUILD"):
                called += parts[-1].work()
            changes = code.name in ("APPEND", "APPENDS", "SETITEM", "SETITEMS", "BUILD")
            length = len(argument) if isinstance(argument, str | bytes) else 0
            made = parts.pop(0) if changes else _Object([], length)
            made.add(parts)
            stack += [made] * len(code.stack_after)
            if made.depth > _DEPTH or max(count, made.total, called // 10) > _OBJECTS:
                raise InputError("holds too many nested objects; save only the weights")


def _check_global(name: str) -> None:
    storage = name.startswith("torch ") and name.endswith("Storage")
    if not (storage or name in _CALLED or name in _DTYPES):
        raise pickle.UnpicklingError(f"{name.replace(' ', '.')} {NO_WEIGHTS}")


def _top(stack: list[_Object | None]) -> _Object:
    if not stack or stack[-1] is None:
        raise pickle.UnpicklingError("nothing was made yet")
    return stack[-1]


def _pop(stack: list[_Object | None], code: pickletools.OpcodeInfo) -> list[_Object]:
    """What an operation takes from the stack, from the bottom."""
    below, marked = _taken(code)
    parts: list[_Object] = []
    while marked and (part := stack.pop()) is not None:
        parts.append(part)
    for _ in range(below):
        parts.append(_top(stack))
        stack.pop()
    return parts[::-1]


@functools.cache
def _taken(code: pickletools.OpcodeInfo) -> tuple[int, bool]:
    """How many objects an operation takes, and whether all above a mark as well."""
    before = list(code.stack_before)
    marked = pickletools.markobject in before
    return before.index(pickletools.markobject) if marked else len(before), marked


def _check_content(content: object, size: int) -> None:
    """Refuse tensors that are larger than the file of `size` bytes, and what shadows methods."""
    total, seen = 0, set()
    for part in _parts(content):
        if isinstance(part, Tensor):
            if part.layout is not torch.strided or part.device.type != "cpu":
                raise InputError("holds a tensor that is not dense; save dense weights")
            length = part.numel() * part.element_size()
            if length > part.untyped_storage().nbytes():
                raise InputError(
                    f"holds an expanded tensor of shape {tuple(part.shape)}; save its clone()"
                )
            total += 0 if id(part) in seen else length
            seen.add(id(part))
        elif isinstance(part, OrderedDict):
            # Such as `items`, if a file says so. The versions in `_metadata` are not needed.
            vars(part).clear()
    if total > _SHARED * size + _SMALL:
        raise InputError(f"holds {total:,} bytes of weights in {size:,}; save their clone()")


def _parts(content: object) -> Iterator[object]:
    """All objects within `content`, each as often as it is reached."""
    rest, count = [content], 0
    while rest:
        part = rest.pop()
        count += 1
        if isinstance(part, dict):
            rest += part.keys()
            rest += part.values()
        elif isinstance(part, list | tuple | set):
            rest += part
        if count + len(rest) > _OBJECTS:
            raise InputError("holds too many nested objects; save only the weights")
        yield part
