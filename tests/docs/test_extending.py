"""The examples of docs/extending.md, carried out as they are written, one after the other."""

import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import optuna
import pytest

from search_spaces import load_space
from tests.support.commands import ROOT
from tests.support.documented import Command, blocks, commands
from tuning.__main__ import main

PAGE = "docs/extending.md"
# Blocks begin with the names of their files.
NAME = re.compile(r"# ([\w.]+)\n")
PACKAGES = ("results", "search_spaces", "trainables", "tuning")
# The command of the page; then a training, a file that is read again, and proposals.
USED = """
import sys
from pathlib import Path
import optuna
import torch
from search_spaces import load_space
from tests.support.small_networks import config
from trainables.decrop.training import DecropTraining
from trainables.models.architectures import DigitsCNN
from trainables.models.classifiers import BaseClassifier
from trainables.weights.denoiser_file import denoiser_bytes, load_denoiser
from tuning.study.samplers import make_sampler
import trainables
from tuning.__main__ import main

assert Path(trainables.__file__).is_relative_to(Path.cwd()), trainables.__file__
assert main(sys.argv[2:]) == 0

torch.manual_seed(0)
images, labels = torch.rand(8, 1, 8, 8), torch.arange(8)
chosen = config(denoiser="dilated", w_tv=0.5)
training = DecropTraining(chosen, BaseClassifier(DigitsCNN()), images, labels, seed=0)
untrained = training.denoiser(images)
assert torch.equal(untrained, images)
terms = training.train_epoch()
assert terms["total_variation"] > 0, terms
denoiser = training.denoiser.eval()
assert not torch.equal(denoiser(images), images)
again = load_denoiser(denoiser_bytes(denoiser)).eval()
assert (type(again).__name__, again.spec["width"]) == ("Dilated", 4)
torch.testing.assert_close(again(images), denoiser(images))

space = load_space("chosen.yaml")
study = optuna.create_study()
study.add_trial(optuna.create_trial(
    params={"sigma": 0.2}, distributions={"sigma": optuna.distributions.FloatDistribution(0, 1)},
    value=0.0,
))
proposed = []
for seed in range(20):
    study.sampler = make_sampler("crossing", seed, space)
    proposed.append(space.suggest(study.ask()))
taken = [values["sigma"] == 0.2 for values in proposed]
assert 2 < sum(taken) < 18, taken
assert {values["denoiser"] for values in proposed} == {"dncnn", "dilated"}
"""
# As the page says.
CHOSEN = """
name: chosen
extends: digits
published: {denoiser: dncnn}
parameters: {denoiser: {choices: [dncnn, dilated]}}
"""


def write_files(folder: Path) -> None:
    for block in blocks():
        if block.page == PAGE and block.language != "sh":
            found = NAME.match(block.text)
            assert found, block
            (folder / found.group(1)).write_text(block.text)


def parts() -> tuple[list[Command], list[Command]]:
    """The commands before the first change of the project, and those from there on."""
    found = [command for command in commands() if command.page == PAGE]
    first = next(place for place, command in enumerate(found) if command.words[0] == "git")
    return found[:first], found[first:]


def run(folder: Path, *words: str) -> None:
    """Run a program with the project's copy in `folder`."""
    done = subprocess.run(
        words,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": f"{folder}:{ROOT}", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_needs_no_change_of_the_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    write_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    said = []
    for command in parts()[0]:
        program, *words = command.words
        if program == "python":
            runpy.run_path(words[0])
        else:
            assert program == "decrop"
            assert main(words) == 0
            said.append("".join(capfd.readouterr()))
    # Other tests have modules of this name too.
    del sys.modules["my_networks"]
    by_classifier, by_space = said
    # The classifier has learned something, and its weights were found.
    share = re.search(r"the classifier is right on ([\d.]+)%", by_classifier)
    assert share, by_classifier
    assert float(share.group(1)) > 80
    assert "my_space" in by_space


def test_the_space_is_what_the_page_says(tmp_path: Path) -> None:
    write_files(tmp_path)
    space = load_space(str(tmp_path / "my_space.yaml"))
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(0))
    proposed = [space.suggest(study.ask()) for _ in range(50)]
    assert {values["w_cosine"] for values in proposed} == {0.0}
    assert {values["epochs"] for values in proposed} == {100}
    without = {values["mix"] for values in proposed if values["w_mmd"] == 0}
    assert without == {space.published["mix"]}
    assert len({values["mix"] for values in proposed if values["w_mmd"]}) > 10
    assert all(0.12 <= float(values["sigma"]) <= 0.3 for values in proposed)
    assert space.start == ({"w_mmd": 0.0, "stages": 1, "schedule": "onecycle"},)


def test_changes_of_the_project_apply_and_are_used(tmp_path: Path) -> None:
    if shutil.which("git") is None:
        pytest.skip("needs git")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    write_files(tmp_path)
    *patches, command = parts()[1]
    for patch in patches:
        run(tmp_path, *patch.words)
    (tmp_path / "chosen.yaml").write_text(CHOSEN)
    run(tmp_path, sys.executable, "-c", USED, *command.words)
    for name in PACKAGES:
        run(
            tmp_path, sys.executable, "-m", "ruff", "check", f"--config={ROOT}/pyproject.toml", name
        )
