"""Runs on a cluster that somebody else started: who may, and what kill -9 of the driver costs."""

import os
import random
import signal
from collections import Counter
from pathlib import Path

import optuna
import pytest

from tests.support.killed import AFTER_SEARCH, SEARCH
from tests.support.runs import (
    HANGING,
    POINTS,
    SETTING,
    TINY,
    Finished,
    Launcher,
    check_equal,
)

# How often the driver is killed; twenty times in a soak test, a few times in every suite.
KILLS = int(os.environ.get("DECROP_KILLS", "4"))
RUNGS = [1, 3, 8]


def test_wrong_token_is_one_line(launcher: Launcher, foreign_cluster: str, tmp_path: Path) -> None:
    # Ray would look for a token in the user's home.
    secured = launcher.knowing(RAY_AUTH_MODE="token", HOME=str(tmp_path))
    there = ["--name=wrong", f"--cluster={foreign_cluster}"]
    run = secured.knowing(RAY_AUTH_TOKEN="f" * 64).run(*there, code=2)
    assert "refuses the token" in run.err
    assert run.err.count("\n") == 1
    assert not run.folder.exists()
    assert "requires a token" in launcher.knowing(HOME=str(tmp_path)).run(*there, code=2).err


def killed(launcher: Launcher, where: str, count: int, *arguments: str) -> int:
    """Run the command line until it dies there, or ends; its exit code."""
    out = f"--out={launcher.folder}"
    process = launcher.start_module("tests.support.killed", where, str(count), out, *arguments)
    _, err = process.communicate(timeout=HANGING)
    assert process.returncode in (0, -signal.SIGKILL), err
    return process.returncode


@pytest.mark.timeout(2 * HANGING + 200 * KILLS)
def test_a_driver_killed_again_and_again_ends_as_if_nothing_had_happened(
    reference_run: Finished, cluster_launcher: Launcher
) -> None:
    generator = random.Random(5)
    folder = cluster_launcher.folder / "killed"
    storage = f"--storage={cluster_launcher.folder / 'storage'}"
    first, resume = ["--name=killed", "--cluster", storage, *TINY], ["--name=killed", "--resume"]
    late = KILLS // 2
    # A moment soon after the start, so that it comes although much has been done before.
    moments = [(generator.choice([*SEARCH]), generator.randint(1, 2)) for _ in range(KILLS - late)]
    after = [*AFTER_SEARCH]
    moments += [(m, 1) for m in sorted(generator.choices(after, k=late), key=after.index)]
    deaths = 0
    for where, number in moments:
        arguments = resume if (folder / "config.yaml").exists() else first
        code = killed(cluster_launcher, where, number, *arguments)
        deaths += code == -signal.SIGKILL
    assert deaths >= 0.75 * KILLS
    cluster_launcher.run("--name=killed", "--resume")
    check_equal(folder, reference_run.folder)
    check_attempts(folder)


def check_attempts(folder: Path) -> None:
    """Each root has one result, and every attempt has ended."""
    (name,) = optuna.get_all_study_names(f"sqlite:///{folder}/study.db")
    study = optuna.load_study(study_name=name, storage=f"sqlite:///{folder}/study.db")
    results = Counter(
        t.user_attrs["root"]
        for t in study.trials
        if "abandoned" not in t.user_attrs.get("result", {}).get("error", "")
    )
    assert set(results) == set(range(POINTS))
    assert set(results.values()) == {1}
    assert all(t.state.is_finished() for t in study.trials)
    assert name == SETTING
