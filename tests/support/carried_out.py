"""This project's commands from the documentation, carried out at a desk."""

import io
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support.benchmarks import help_of
from tests.support.commands import ROOT
from tests.support.desk import NOWHERE, Desk
from tests.support.documented import SHELL, Command, blocks
from tuning.__main__ import main
from tuning.config import RunConfig, make_config
from tuning.flags import launch_line

FLAG = re.compile(r"--[a-z][\w-]*")
SERVED = re.compile(r"http://127\.0\.0\.1:8000\b")
# What is timed by a dry run takes no longer than it has to.
SMALL = [f"--set={value}" for value in ("depth=3", "width=4", "attack_steps=1")]


def launch(command: Command, here: Desk) -> None:
    """A search is planned and timed, or gets as far as its cluster."""
    _, _, *typed = command.words
    passed = launch_line().read([word for word in typed if word != "..."])
    make_config({"name": "x", **{k: v for k, v in passed.items() if k in RunConfig.model_fields}})
    words = here.words(command)
    if "http://HOST:PORT/" in words:
        words[words.index("http://HOST:PORT/")] = here.address(command.page)
    if "--resume" not in words:
        words.append("--out=new")
    if "--cluster" in words:
        refused(words)
    else:
        done([*words, *SMALL, "--dry-run"])
    assert not Path("new").exists()


def certify(command: Command, here: Desk) -> None:
    """A run is verified, or certified as far as its cluster."""
    words = here.words(command)
    if "--verify" in words:
        done(words)
    else:
        refused([*words, f"--cluster={NOWHERE}"])


def written(*patterns: str) -> Callable[[Command, Desk], None]:
    """What is carried out in full, and writes such a file here."""

    def carry_out(command: Command, here: Desk) -> None:
        for path in found():
            path.unlink()
        done(here.words(command))
        assert found()

    def found() -> list[Path]:
        return [path for pattern in patterns for path in Path().glob(pattern)]

    return carry_out


def pretrain(command: Command, here: Desk) -> None:
    """A classifier is trained, for one epoch."""
    done([*here.words(command), "--epochs=1", "--overwrite"])
    assert Path("c.pt").stat().st_size


def named(command: Command, here: Desk) -> None:
    """A command that is only named exists."""
    assert len(command.words) == 2
    assert main([*command.words[1:], "--help"]) == 0


def serve(command: Command, here: Desk) -> None:
    """A server starts, and says where."""
    assert here.address(command.page)


def ask(command: Command, here: Desk) -> None:
    """What a page asks its server is answered, by all of the block at once."""
    if shutil.which("curl") is None:
        pytest.skip("needs curl")
    (block,) = (
        b.text
        for b in blocks()
        if b.language == SHELL and b.page == command.page and "curl" in b.text
    )
    assert answered(block, here.address(command.page))


@cache
def answered(block: str, address: str) -> int:
    """How many requests of a block the server at `address` has answered."""
    asked = re.sub("^decrop serve .*", "", block, flags=re.MULTILINE)
    asked, count = SERVED.subn(address, asked)
    answers = run(["bash", "-euo", "pipefail", "-c", asked.replace("curl", "curl -sSf")])
    assert answers.count("{") >= count
    return count


def make(command: Command, here: Desk) -> None:
    """Make knows the target; what `make run` runs is planned."""
    # Below another make, it would say last that it leaves the folder.
    printed = run(["make", "--dry-run", "--no-print-directory", *command.words[1:]], ROOT)
    if command.words[1:] == ("run",):
        *_, last = printed.splitlines()
        assert last.split() == [".venv/bin/python", "-m", "tuning.launch"]
        done(["decrop", "launch", "--out=new", *SMALL, "--dry-run"])


def benchmark(command: Command, here: Desk) -> None:
    """A benchmark says what it measures, and knows the flags."""
    assert {*FLAG.findall(command.text)} <= {*FLAG.findall(help_of(command.words[2]))}


def module(command: Command, here: Desk) -> None:
    """A module can be run, and what it is given exists."""
    assert can_be_run(command.words[2])
    files(command, here)


def can_be_run(module: str) -> bool:
    """Whether `python -m module` does anything."""
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        return False
    file = Path(spec.origin)
    if file.name == "__init__.py":
        return file.with_name("__main__.py").is_file()
    return 'if __name__ == "__main__":' in file.read_text()


def track(command: Command, here: Desk) -> None:
    """A tracker gets the run, on this machine."""
    # In a process of its own: for as long as one lives, wandb keeps to the folder it began with.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{here.folder}/mlflow.db")
        run([sys.executable, "-m", "tuning", *here.words(command)[1:]])
    assert Path("mlflow.db" if "mlflow" in command.words else "wandb").exists()


def regenerate(command: Command, here: Desk) -> None:
    """The page stays as it is."""
    path = Path(command.words[-1])
    shutil.copy(ROOT / path, path)
    run([sys.executable, *command.words[1:]])
    assert path.read_text() == (ROOT / path).read_text()


def flags(command: Command, here: Desk) -> None:
    """Flags without a command are those of a search with images of one's own."""
    own = "decrop launch --dataset folder --data-dir DIR --classifier SPEC --shots 5"
    launch(command._replace(words=(*own.split(), *command.words)), here)


def files(command: Command, here: Desk) -> None:
    """The project's files that a command names exist."""
    for word in command.words[1:]:
        if re.match(r"(deploy|tests|docs)/|[\w.]+\.(md|txt)$", word):
            assert (ROOT / word).exists(), word


def done(words: list[str]) -> None:
    """Carry out a command of this project, which succeeds."""
    _, *arguments = words
    assert main(arguments) == 0, " ".join(words)


def refused(words: list[str]) -> None:
    """Carry out a command up to its cluster, which does not answer."""
    _, *arguments = words
    said = io.StringIO()
    with redirect_stderr(said):
        assert main(arguments) == 2, " ".join(words)
    assert re.fullmatch(
        rf"error: --cluster: no Ray (cluster|dashboard) answers at \S*{NOWHERE}; .*\n",
        said.getvalue(),
    ), said.getvalue()


def run(words: list[str], folder: Path | None = None, typed: str | None = None) -> str:
    """What a program prints, which succeeds; `typed` is what it reads."""
    done = subprocess.run(
        words,
        cwd=folder,
        input=typed,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
