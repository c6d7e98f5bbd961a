"""Kill -9 of the driver at random moments, each followed by --resume."""

import os
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import optuna
import pytest

from tests.support.killed import MOMENTS
from tests.support.runs import (
    REPO,
    SETTING,
    TINY,
    Finished,
    Workplace,
    finished_trials,
    tables,
    without_incidentals,
)

pytestmark = pytest.mark.timeout(1800)
# How often the driver is killed; twenty times in a soak test, a few times in every suite.
KILLS = int(os.environ.get("DECROP_KILLS", "4"))
RUNGS = [1, 3, 8]


def killed(workplace: Workplace, where: str, count: int, *arguments: str) -> int:
    """Run the command line until it dies there, or ends; its exit code."""
    process = subprocess.run(
        [sys.executable, "-m", "tests.support.killed", where, str(count),
         f"--out={workplace.folder}", *arguments],
        cwd=REPO, env=workplace.environment, capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert process.returncode in (0, -signal.SIGKILL), process.stderr
    return process.returncode


def test_a_driver_killed_again_and_again_ends_as_if_nothing_had_happened(
    reference_run: Finished, cluster_environment: Workplace
) -> None:
    generator = random.Random(0)
    folder = cluster_environment.folder / "killed"
    first, resume = ["--name=killed", "--cluster", *TINY], ["--name=killed", "--resume"]
    *of_search, denoiser, votes = MOMENTS
    late = max(1, KILLS // 5)
    moments = [generator.choice(of_search) for _ in range(KILLS - late)]
    moments += [generator.choice((denoiser, votes)) for _ in range(late)]
    deaths = 0
    for where in moments:
        arguments = resume if (folder / "config.yaml").exists() else first
        # A moment soon after the start, so that it comes although much has been done before.
        code = killed(cluster_environment, where, generator.randint(1, 2), *arguments)
        deaths += code == -signal.SIGKILL
    assert deaths >= 0.75 * KILLS
    cluster_environment.run("--name=killed", "--resume")
    assert finished_trials(folder) == finished_trials(reference_run.folder)
    ours, reference = (tables(f, ["certificates"])[0] for f in (folder, reference_run.folder))
    assert without_incidentals(ours) == without_incidentals(reference)
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
    assert set(results) == set(range(15))
    assert set(results.values()) == {1}
    assert all(t.state.is_finished() for t in study.trials)
    assert name == SETTING
