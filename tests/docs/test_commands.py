"""Every command of the documentation is carried out, as far as one machine can.

What a page names is there in the working folder, and the commands are run in it as they are typed;
`tests.support.desk` lists the words that are replaced. Searches are run with --dry-run, and what
needs a cluster goes as far as the connection, which is refused. What other programs are told is
compared with this project's files. The commands of docs/extending.md are left to test_extending.py.
"""

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import carried_out, looked_up
from tests.support.carried_out import can_be_run, run
from tests.support.commands import ROOT
from tests.support.desk import Desk
from tests.support.documented import PAGES, SHELL, Command, blocks, commands

# Elsewhere made files, `cd` at a prompt, and flags without their command.
IGNORED = "--exclude=SC1091,SC2164,SC2215"
SHELLCHECK = str(Path(sys.executable).with_name("shellcheck"))
EXTENDING, CLUSTER = "docs/extending.md", "docs/cluster.md"
# The first of those that are the same.
FOUND = {command.words: command for command in reversed(commands()) if command.page != EXTENDING}
SHELLS = [block for block in blocks() if block.language == SHELL]
# What is done about commands that begin like this; the first that fits is.
RULES: dict[str, Callable[[Command, Desk], None]] = {
    "decrop launch ": carried_out.launch,
    "decrop certify ": carried_out.certify,
    "decrop report ": carried_out.written("*.html", "RUN/report.html"),
    "decrop export ": carried_out.written("*.onnx", "*.pt2"),
    "decrop pretrain ": carried_out.pretrain,
    "decrop serve ": carried_out.serve,
    "decrop track ": carried_out.track,
    "decrop ": carried_out.named,
    "--": carried_out.flags,
    "curl ": carried_out.ask,
    "make ": carried_out.make,
    "python -m benchmarks.": carried_out.benchmark,
    "python -m pytest ": carried_out.module,
    "python -m tests.": carried_out.module,
    "python -m tuning.flags ": carried_out.regenerate,
    "python -c ": looked_up.code,
    "python deploy/": carried_out.files,
    "pip install ": looked_up.pip,
    "tensorboard ": looked_up.tensorboard,
    "optuna-dashboard ": looked_up.optuna_dashboard,
    "ray ": looked_up.ray,
    "kubectl ": looked_up.kubectl,
    "docker ": carried_out.files,
    "sbatch ": looked_up.sbatch,
    "sky ": carried_out.files,
    "hf upload ": looked_up.upload,
}
# Commands that begin like this are not carried out, for a reason.
EXCEPTIONS = {
    "python -m ...": "stands for the commands that follow",
    "python -m venv ": "`make` does it, and tests/test_wheel.py",
    "git clone ": "there is no network",
    "ssh ": "there is one machine",
    "scp ": "there is one machine",
    "aws ": "needs an account of a cloud",
    **dict.fromkeys(
        ("cd ", "export ", "source ", "umask ", "mkdir ", "openssl ", "tr ", "head ", "base64"),
        "of every Unix, and read by ShellCheck; what goes to curl is carried out with it",
    ),
}


def rule_of(text: str) -> str | None:
    """The beginning of a command that says what is done about it."""
    return next((begin for begin in [*RULES, *EXCEPTIONS] if text.startswith(begin)), None)


@pytest.mark.parametrize(
    "command", FOUND.values(), ids=lambda command: f"{command.place} {command.text}"
)
def test_command(command: Command, here: Desk) -> None:
    begin = rule_of(command.text)
    assert begin is not None, (
        f"{command.place}: nothing is known about the command {command.text!r}: add a rule to "
        f"RULES in {Path(__file__).relative_to(ROOT)}, or the reason why there is none to "
        "EXCEPTIONS; a block that is no shell needs a fence with its language"
    )
    if begin in RULES:
        RULES[begin](command, here)


def test_every_rule_and_every_exception_is_needed() -> None:
    used = {rule_of(command.text) for command in FOUND.values()}
    assert [begin for begin in [*RULES, *EXCEPTIONS] if begin not in used] == []


def test_every_module_that_is_named_can_be_run() -> None:
    named = {
        module
        for page in PAGES
        for module in re.findall(r"python3? -m (\w[\w.]+)", page.read_text())
    }
    assert {"tuning.launch", "trainables.black_box.serve", "results.report"} <= named
    assert [module for module in sorted(named) if not can_be_run(module)] == []


@pytest.mark.parametrize("page", sorted({block.page for block in SHELLS} - {CLUSTER}))
def test_shells_read_every_block(page: str) -> None:
    """Those of docs/cluster.md are read by tests/deploy/test_shell.py."""
    text = "\n".join(block.text for block in SHELLS if block.page == page)
    for words in (["bash", "-n"], [SHELLCHECK, "--shell=bash", IGNORED, "-"]):
        run(words, typed=text)
