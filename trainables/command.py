"""Command lines made from configurations: a field with its description is a flag and its help.

Every command ends with an exit code, and with one line on standard error if it fails. That holds
for bugs too: their traceback is in a file that the line names.
"""

from __future__ import annotations

import argparse
import gc
import re
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from trainables.errors import InputError, UserError, describe_error, nearest, printable

INTERRUPTED = 130
# The machine does not do what it should, such as when its disk is full: this can be tried again.
FAILED_SYSTEM = 4
# As EX_SOFTWARE of sysexits.h.
BUG = 70
Model = TypeVar("Model", bound=BaseModel)
METAVARS = {int: "N", float: "X", Path: "PATH"}


class UsageError(UserError):
    """A command line that cannot be understood."""

    exit_code = 2


@dataclass(frozen=True)
class Flag:
    """What a flag needs beyond the type, default and description of its field.

    `metavar` names its value in the help, and `default` describes a default that is not a constant.
    `alone` is the value of a flag that is passed without one. A `positional` argument is passed
    without the flag's name.
    """

    metavar: str | None = None
    default: str | None = None
    alone: str | None = None
    positional: bool = False


class CommandLine(argparse.ArgumentParser):
    """Flags by help group.

    Values remain text; the models that own the fields convert and check it:

        class Recipe(BaseModel):
            epochs: int = Field(20, ge=1, description="passes over the images")

        line = CommandLine("pretrain", "Train a classifier.")
        line.add_fields("training", Recipe)
        line.read(["--epochs", "3"])   # {"epochs": "3"}
    """

    def __init__(self, program: str, description: str, version: str | None = None) -> None:
        super().__init__(
            prog=program,
            usage=f"{program} [FLAG ...]",
            description=description,
            argument_default=argparse.SUPPRESS,
            allow_abbrev=False,
        )
        self._titled: dict[str, argparse._ActionsContainer] = {"": self}
        self._names = ["--help"]
        if version is not None:
            self._names.append("--version")
            shown = f"{program.split()[0]} {version}"
            self.add_argument("--version", action="version", version=shown)

    def add_fields(
        self, title: str, model: type[BaseModel], only: Collection[str] | None = None
    ) -> None:
        """Make flags in the help group `title` from the fields of `model`, or `only` from some."""
        for name, field in flags_of(model):
            if only is not None and name not in only:
                continue
            if title not in self._titled:
                self._titled[title] = self.add_argument_group(title)
            if details(field).positional:
                self.usage = f"{self.prog} {metavar(field)} [FLAG ...]"
                passed = name
            else:
                passed = flag(name)
            self._titled[title].add_argument(passed, **_argument(name, field))
            self._names.append(passed)

    def read(self, arguments: Sequence[str] | None) -> dict[str, Any]:
        """The `arguments` by field name; None stands for the arguments of the process.

        Raises:
            UsageError: for unknown flags, and for missing values.
        """
        values, unknown = self.parse_known_args(arguments)
        if unknown:
            passed = unknown[0].partition("=")[0]
            known = nearest(passed, self._names) if passed.startswith("-") else ""
            self.error(f"{passed}: unknown{known}")
        return vars(values)

    def error(self, message: str) -> NoReturn:
        """End with `message`."""
        raise UsageError(f"{message.removeprefix('argument ')} (see --help)")


def read_model(
    model: type[Model], program: str, description: str, arguments: Sequence[str] | None
) -> Model:
    """The configuration that `arguments`, on the command line of `program`, describe.

    Raises:
        UsageError: for unknown flags, and for values that are missing or wrong.
    """
    line = CommandLine(program, description)
    line.add_fields("", model)
    try:
        return model.model_validate(line.read(arguments))
    except ValidationError as error:
        raise UsageError(problem(error)) from error


def run_command(
    command: Callable[[Sequence[str] | None], None],
    arguments: Sequence[str] | None,
    interrupted: str | None = None,
) -> int:
    """Run `command` on `arguments`, or the process's own if None, and return the exit code.

    `interrupted` is printed after Ctrl-C, unless it is None.
    """
    # A command that a shell starts in the background would ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        command(arguments)
    except UserError as error:
        return _fail(with_flags(error), error.exit_code)
    except KeyboardInterrupt:
        return (
            INTERRUPTED
            if interrupted is None
            else _fail(f"interrupted; {interrupted}", INTERRUPTED)
        )
    except SystemExit as end:
        # --help and --version.
        return int(end.code or 0)
    except OSError as error:
        place = "" if error.filename is None else f"{error.filename}: "
        return _fail(place + (error.strerror or describe_error(error)), FAILED_SYSTEM)
    except MemoryError:
        return _fail("there is not enough memory", FAILED_SYSTEM)
    except Exception as error:
        place = _keep_traceback(error)
        return _fail(f"this is a bug: {describe_error(error)}; please report it with {place}", BUG)
    return 0


@contextmanager
def importing() -> Iterator[None]:
    """Import large libraries in the block: a fifth faster, because no garbage is collected in it.

    They make hundreds of thousands of objects, all of which stay.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def flag(field: str) -> str:
    """The command-line flag of a field."""
    return "--" + field.replace("_", "-")


def flags_of(model: type[BaseModel]) -> Iterator[tuple[str, FieldInfo]]:
    """The fields of a model, each with the name of its flag: its alias, if it has one."""
    for name, field in model.model_fields.items():
        yield field.alias or name, field


def problem(error: ValidationError) -> str:
    """The first thing that is wrong, on one line that begins with its flag."""
    first = error.errors()[0]
    name = flag(str(first["loc"][0]))
    if first["type"] == "missing":
        return f"{name}: is required"
    if first["type"] == "value_error":
        return f"{name}: {first['msg'].removeprefix('Value error, ')}"
    return f"{name}: {first['msg']}; got {first['input']!r}"


def details(field: FieldInfo) -> Flag:
    """What a field says about its flag."""
    return next((item for item in field.metadata if isinstance(item, Flag)), Flag())


def metavar(field: FieldInfo) -> str:
    """The name of a flag's value in the help; empty for a switch."""
    if field.annotation is bool:
        return ""
    given = details(field)
    if given.metavar is None:
        given = Flag(_of_type(field.annotation), alone=given.alone)
    return f"[{given.metavar}]" if given.alone else str(given.metavar)


def default(field: FieldInfo) -> str:
    """The default of a field, written as on the command line; empty if there is none."""
    given = details(field).default
    if given is not None:
        return given
    value = None if field.is_required() else field.get_default()
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return "" if value in (None, {}) or value is False else str(value)


def _of_type(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return "|".join(get_args(annotation))
    kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
    return METAVARS.get(kinds[0] if kinds else annotation, "TEXT")


def _argument(name: str, field: FieldInfo) -> dict[str, Any]:
    given = details(field)
    shown = default(field)
    assert field.description is not None, name
    text = field.description + (f" (default: {shown})" if shown else "")
    options: dict[str, Any] = {"help": text.replace("%", "%%")}
    if field.annotation is bool:
        return {**options, "action": "store_true"}
    options["metavar"] = given.metavar or _of_type(field.annotation)
    if given.positional:
        return options if field.is_required() else {**options, "nargs": "?"}
    if given.alone is not None:
        return {**options, "nargs": "?", "const": given.alone}
    if get_origin(field.annotation) is dict:
        return {**options, "action": "append"}
    return options


def with_flags(error: Exception) -> str:
    """The message of `error`, with command-line flags in place of parameter names."""
    if not isinstance(error, InputError):
        return str(error)
    problem = re.sub(r"`(\w+)`", lambda named: flag(named[1]), error.problem)
    return problem if error.field is None else f"{flag(error.field)}: {problem}"


def _keep_traceback(error: Exception) -> str:
    """Write the traceback to a file, and return its path or, if there is no room, the last line."""
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="decrop-", suffix=".log", delete=False, errors="backslashreplace"
        ) as file:
            traceback.print_exception(error, file=file)
    except OSError:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        return f"{frame.filename}, line {frame.lineno}"
    return file.name


def _fail(message: str, code: int) -> int:
    # It may quote names from files.
    print(f"error: {printable(message)}", file=sys.stderr)
    return code
