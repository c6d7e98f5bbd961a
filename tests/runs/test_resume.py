import contextlib
import json
import subprocess

import psutil

from results.verification import verify
from tests.support.runs import (
    CERTIFIED,
    POINTS,
    SETTING,
    Finished,
    Launcher,
    ended,
    tables,
    wait_until,
    without_incidentals,
)
from tuning.certification.replay import replay


def kill_one_trial_worker(process: subprocess.Popen[str]) -> None:
    """Kill -9 the first worker that runs a trial, as the kernel does when memory runs out."""

    def killed() -> bool:
        for worker in psutil.Process(process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if "Trainable" in " ".join(worker.cmdline()):
                    worker.kill()
                    return True
        return False

    wait_until(killed, process)


def test_more_trials_extend_a_finished_run_though_a_worker_dies_and_its_votes_are_damaged(
    reference_run: Finished, launcher: Launcher
) -> None:
    folder = reference_run.copied(launcher.folder / "extended")
    before = tables(reference_run.folder, ["trials"])[0]
    votes = folder / SETTING / "votes.db"
    process = launcher.start("--name=extended", "--resume", "--trials=7")
    kill_one_trial_worker(process)
    # Not before: it would be refused before the search.
    votes.write_text("no database" * 1000)
    _, err = ended(process, code=4)
    assert "--resume" in err.splitlines()[-1]
    assert "Traceback" not in err
    votes.unlink()
    run = launcher.run("--name=extended", "--resume", "--json")
    after = tables(run.folder, ["trials"])[0]
    assert after[: len(before)] == before
    assert [row["root"] for row in after[len(before) :]] == [POINTS, POINTS + 1]
    assert all(row["state"] != "failed" for row in after)
    assert [row["variant"] for row in run.summary] == CERTIFIED
    assert verify(run.folder, replay) == (12 * len(CERTIFIED), [])
    ours, reference = (tables(f, ["certificates"])[0] for f in (folder, reference_run.folder))
    baselines = [
        [row for row in without_incidentals(rows) if row["variant"] != "best"]
        for rows in (ours, reference)
    ]
    assert baselines[0] == baselines[1]


def test_resume_refuses_another_classifier(reference_run: Finished, launcher: Launcher) -> None:
    folder = reference_run.copied(launcher.folder / "swapped")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["settings"][SETTING]["classifier_hash"] = "0" * 64
    (folder / "manifest.json").write_text(json.dumps(manifest))
    run = launcher.run("--name=swapped", "--resume", code=2)
    assert "--classifier" in run.err.splitlines()[-1]
    assert tables(folder, ["certificates"]) == tables(reference_run.folder, ["certificates"])
