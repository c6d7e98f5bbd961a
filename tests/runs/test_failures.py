"""Runs in which every trial fails."""

import json
from pathlib import Path

from tests.support.runs import SMALLEST_SPACE, Launcher, tables


def test_every_trial_failing_is_exit_code_three(launcher: Launcher) -> None:
    arguments = ["--name=nan", "--classifier=tests.support.foreign:steep", "--trials=1"]
    arguments += [f"--space={SMALLEST_SPACE}"]
    run = launcher.run(*arguments, "--certify-images=2", "--set=epochs=8", code=3)
    assert "label_consistency became nan" in run.err.splitlines()[-1]
    assert json.loads((run.folder / "manifest.json").read_text())["seed"] == 0


def test_a_host_without_memory_fails_trials_in_one_line(launcher: Launcher, tmp_path: Path) -> None:
    space = tmp_path / "one.yaml"
    space.write_text(
        "name: one\nextends: digits\nsweep: [0.25]\nparameters: {sigma: {choices: [0.25]}}\n"
    )
    # Ray ends every worker at once, as it would the largest one of a host that is full.
    full = {"RAY_memory_usage_threshold": "0.01", "RAY_memory_monitor_refresh_ms": "100"}
    run = launcher.knowing(**full).run("--name=full", "--trials=1", f"--space={space}", code=3)
    assert "low on memory" in run.err.splitlines()[-1]
    (trials,) = tables(run.folder, ["trials"])
    reasons = {row["root"]: row["error"] for row in trials}
    assert set(reasons) == {0, 1, 2}
    assert all("low on memory" in reason for reason in reasons.values())
