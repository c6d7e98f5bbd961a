"""What happens to a host, a worker or the driver must not change the result of a run."""

import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import optuna
import pytest

from tests.cluster.conftest import SMALL
from tests.support.counts import recorded
from tests.support.hosts import (
    TRAINING,
    VOTER,
    TwoHosts,
    signal_to,
    wait_for,
    wait_for_second,
    workers,
)
from tests.support.runs import POINTS, SETTING, Finished, count, tables, without_incidentals
from tuning.votes.store import VoteKey

# Runs with two random faults each; ten of them in a soak test.
SOAKS = int(os.environ.get("DECROP_FAULTS", "0")) // 2
CUT_SECONDS = 30
# What a fault may change of a trial.
MARKS = {"error", "restarts"}
BUSY = (TRAINING, "ray::_count", VOTER)

Launcher = subprocess.Popen[str]
# Something bad, and the launcher that works after it.
Fault = Callable[[TwoHosts, Launcher, str], Launcher]


def kill_a_worker(hosts: TwoHosts, launcher: Launcher, name: str) -> Launcher:
    """That trains or counts."""
    busy: list[int] = []
    while not busy:
        titles = [(host, title) for host in (hosts.second, hosts.first) for title in BUSY]
        busy = [pid for host, title in titles for pid in workers(host, title)]
        time.sleep(0.05)
    signal_to(busy[0], signal.SIGKILL)
    return launcher


def kill_the_second_host(hosts: TwoHosts, launcher: Launcher, name: str) -> Launcher:
    """All its processes at once."""
    hosts.second.kill()
    return launcher


def kill_the_driver(hosts: TwoHosts, launcher: Launcher, name: str) -> Launcher:
    """And go on with --resume."""
    launcher.kill()
    hosts.finish(launcher, name, code=-signal.SIGKILL)
    return hosts.launch(f"--name={name}", "--resume")


def cut_the_cable(hosts: TwoHosts, launcher: Launcher, name: str) -> Launcher:
    """For half a minute."""
    hosts.cut()
    time.sleep(CUT_SECONDS)
    hosts.reconnect()
    return launcher


def terminate_the_driver(hosts: TwoHosts, launcher: Launcher, name: str) -> Launcher:
    """As SLURM does when the time is up, and go on with --resume."""
    signal_to(launcher.pid, signal.SIGTERM)
    run = hosts.finish(launcher, name, code=128 + signal.SIGTERM)
    assert f"--resume --out {hosts.folder} --name {name}" in run.err.splitlines()[-1]
    return hosts.launch(f"--name={name}", "--resume")


def drain_the_second_host(hosts: TwoHosts, launcher: Launcher, name: str) -> Launcher:
    """As the autoscaler does when a spot instance is to go, which it then does."""
    hosts.drain_second()
    return _leaves(hosts, launcher)


def terminate_the_second_host(hosts: TwoHosts, launcher: Launcher, name: str) -> Launcher:
    """As Kubernetes does with its pod."""
    for pid in workers(hosts.second, "--block"):
        signal_to(pid, signal.SIGTERM)
    return _leaves(hosts, launcher)


def terminate_the_raylet(hosts: TwoHosts, launcher: Launcher, name: str) -> Launcher:
    """Which ends its workers at once, without a word: trials go on from their last checkpoints."""
    for pid in workers(hosts.second, "raylet/raylet"):
        signal_to(pid, signal.SIGTERM)
    return _leaves(hosts, launcher)


def _leaves(hosts: TwoHosts, launcher: Launcher) -> Launcher:
    """Wait until nothing works on the second host, and pull its plug."""
    wait_for(lambda: not any(workers(hosts.second, title) for title in BUSY), launcher)
    hosts.second.kill()
    return launcher


FAULTS: dict[str, Fault] = {
    fault.__name__: fault
    for fault in (
        kill_a_worker,
        kill_the_second_host,
        kill_the_driver,
        cut_the_cable,
        terminate_the_driver,
        drain_the_second_host,
        terminate_the_second_host,
        terminate_the_raylet,
    )
}
# After these, the second host has to join again.
LEAVING = {
    "kill_the_second_host",
    "cut_the_cable",
    "drain_the_second_host",
    "terminate_the_second_host",
    "terminate_the_raylet",
}


def ready_for_search_fault(folder: Path) -> bool:
    """Whether some trials have ended, and others run."""
    return complete_trials(folder) >= 3


def complete_trials(folder: Path) -> int:
    return count(folder / "study.db", "SELECT COUNT(*) FROM trials WHERE state = 'COMPLETE'")


def ready_for_certification_fault(folder: Path) -> bool:
    """Whether some votes of certificates are there, and others are not."""
    query = "SELECT COUNT(*) FROM counts WHERE phase = 'estimate'"
    return count(folder / SETTING / "votes.db", query) >= 40


def run_with(
    hosts: TwoHosts, name: str, in_search: str | None, in_certification: str | None
) -> Finished:
    """A run to which both faults happen, on a cluster that is whole before each of them."""
    folder = hosts.folder / name
    launcher = hosts.launch(f"--name={name}", f"--storage={hosts.storage}", *SMALL)
    try:
        if in_search is not None:
            wait_for(lambda: ready_for_search_fault(folder), launcher)
            launcher = FAULTS[in_search](hosts, launcher, name)
            if in_search in LEAVING:
                hosts.restore()
        if in_certification is not None:
            wait_for(lambda: ready_for_certification_fault(folder), launcher)
            launcher = FAULTS[in_certification](hosts, launcher, name)
        return hosts.finish(launcher, name)
    finally:
        launcher.kill()
        if in_certification in LEAVING:
            hosts.restore()


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_search_and_in_certification_changes_no_result(
    hosts: TwoHosts, undisturbed: Finished, fault: str
) -> None:
    run = run_with(hosts, fault, fault, fault)
    check_same(run, undisturbed)
    (trials,) = tables(run.folder, ["trials"])
    report = (run.folder / "report.html").read_text()
    if fault == "kill_the_driver":
        assert any("abandoned" in row["error"] for row in trials)
        assert "abandoned" in report
    if fault == "kill_a_worker":
        (restarted,) = [row for row in trials if row["restarts"]]
        assert "died unexpectedly" in restarted["error"]
        assert "1 continued in a different worker" in report
    if fault in ("drain_the_second_host", "terminate_the_second_host"):
        assert not any(row["restarts"] or row["error"] for row in trials)
    if fault == "kill_the_second_host":
        assert f"{hosts.second.address}:" in report.partition("lost_hosts")[2][:300]


def test_a_host_that_joins_late_takes_part(hosts: TwoHosts, undisturbed: Finished) -> None:
    hosts.second.kill()
    hosts.wait_for_nodes(1)
    launcher = hosts.launch(
        "--name=late", f"--storage={hosts.storage}", "--virtual-workers=2", *SMALL
    )
    wait_for(lambda: complete_trials(hosts.folder / "late") > 0, launcher)
    hosts.start_second()
    wait_for_second(hosts, launcher)
    run = hosts.finish(launcher, "late")
    check_same(run, undisturbed)
    (trials,) = tables(run.folder, ["trials"])
    votes = recorded(run.folder / SETTING / "votes.db")
    assert hosts.second.address in {row["node"] for row in trials}
    assert hosts.second.address in {counts.node for counts in votes.values()}


@pytest.mark.parametrize("seed", range(SOAKS))
def test_random_faults_change_no_result(hosts: TwoHosts, undisturbed: Finished, seed: int) -> None:
    generator = random.Random(seed)
    first, second = (generator.choice(sorted(FAULTS)) for _ in range(2))
    check_same(run_with(hosts, f"soak-{seed}", first, second), undisturbed)


def check_same(run: Finished, undisturbed: Finished) -> None:
    """No trial lost, none counted twice, the same certificates."""
    assert trials_of(run) == trials_of(undisturbed)
    ours, reference = (tables(r.folder, ["certificates"])[0] for r in (run, undisturbed))
    assert without_incidentals(ours) == without_incidentals(reference)
    study = optuna.load_study(study_name=SETTING, storage=f"sqlite:///{run.folder}/study.db")
    results = Counter(
        t.user_attrs["root"]
        for t in study.trials
        if "abandoned" not in t.user_attrs.get("result", {}).get("error", "")
    )
    assert set(results.values()) == {1}
    assert set(results) == set(range(POINTS))
    keys = sorted(recorded(run.folder / SETTING / "votes.db"))
    for one, two in pairwise(keys):
        if stream(one) == stream(two):
            assert one.stop <= two.start


def stream(key: VoteKey) -> tuple[Any, ...]:
    return key[:-2]


def trials_of(run: Finished) -> list[dict[str, object]]:
    """Results of the roots, without what a fault leaves at them."""
    (trials,) = tables(run.folder, ["trials"])
    rows = sorted((row for row in trials if row["state"] != "failed"), key=lambda row: row["root"])
    return [{k: v for k, v in row.items() if k not in MARKS} for row in without_incidentals(rows)]
