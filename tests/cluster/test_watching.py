"""What an operator sees of a run, and what nobody may see."""

import re

import pyarrow.parquet as pq
import pytest

from tests.cluster.conftest import Watched
from tests.support.counts import recorded
from tests.support.hosts import TwoHosts
from tests.support.runs import SETTING, VARIANTS


def values(watched: Watched, metric: str) -> dict[tuple[str, ...], float]:
    """Of a metric, by its own labels in alphabetical order."""
    own = ("model", "run", "setting", "state", "step")
    return {
        tuple(v for k, v in sorted(re.findall(r'(\w+)="([^"]*)"', name)) if k in own): value
        for name, value in watched.seen["metrics"].items()
        if name.startswith(f"ray_{metric}{{")
    }


def test_metrics_say_what_the_tables_say(watched: Watched) -> None:
    folder = watched.run.folder / SETTING
    trials = pq.read_table(folder / "trials.parquet").to_pylist()
    states = {
        ("undisturbed", SETTING, state): float(sum(row["state"] == state for row in trials))
        for state in ("complete", "pruned")
    }
    assert values(watched, "decrop_trials_total") == states
    best = max(row["objective"] for row in trials if row["state"] == "complete")
    assert values(watched, "decrop_best_objective") == {("undisturbed", SETTING): best}
    (seconds,) = values(watched, "decrop_device_seconds_total").values()
    assert seconds == pytest.approx(sum(row["seconds"] for row in trials))
    counted = values(watched, "decrop_votes_total")
    # If the published values are best at their own sigma, their votes are counted only once.
    known = set(counted) - {(f"{SETTING}: published_best_sigma",)}
    assert known == {(f"{SETTING}: {v}",) for v in (*VARIANTS, "confirmation")}
    # The last ones may not have been exported before the end.
    stored = recorded(folder / "votes.db")
    assert 0.3 < sum(counted.values()) / sum(key.stop - key.start for key in stored) <= 1


def test_tasks_are_named_by_what_they_work_for(watched: Watched) -> None:
    assert {f"votes: {SETTING}: {variant}" for variant in VARIANTS} <= set(watched.seen["tasks"])
    trained = re.compile(rf"train: {SETTING}: \d{{3}} [a-z ]+, (fold \d|all shots)")
    seen = [found for name in watched.seen["tasks"] if (found := trained.fullmatch(name))]
    assert {found[1] for found in seen} >= {"fold 0", "fold 1", "all shots"}


def test_tasks_of_trials_are_named_by_trial_epoch_and_score_on_workers_of_the_search(
    watched: Watched,
) -> None:
    assert f"{SETTING}: 000 published, from epoch 1" in watched.seen["tasks"]
    scored = re.compile(rf"{SETTING}: \d{{3}} [a-z ]+, from epoch \d+, score -?\d\.\d+")
    assert any(scored.fullmatch(name) for name in watched.seen["tasks"])
    assert {name for name in watched.seen["actors"] if name} == {"search worker"}


def test_no_secret_is_in_what_a_run_leaves_or_shows(hosts: TwoHosts, watched: Watched) -> None:
    secrets = {hosts.first.environment[k] for k in ("AWS_SECRET_ACCESS_KEY", "RAY_AUTH_TOKEN")}
    assert watched.seen["secrets"] == []
    assert watched.seen["jobs"]
    places = [watched.run.folder, hosts.session_folder()]
    files = [path for place in places for path in place.rglob("*") if path.is_file()]
    assert len(files) > 50
    contents = {str(path): path.read_bytes() for path in files}
    contents |= {f"bucket: {k}": v for k, v in hosts.stored("undisturbed").items()}
    contents["output"] = (watched.run.out + watched.run.err).encode()
    contents["jobs"] = watched.seen["jobs"].encode()
    # What is there is found.
    assert any(b"undisturbed" in content for content in contents.values())
    found = [n for n, content in contents.items() if any(s.encode() in content for s in secrets)]
    assert found == []


def test_the_dashboard_asks_for_the_token(hosts: TwoHosts) -> None:
    script = "import requests, sys; print(requests.get(sys.argv[1] + '/api/jobs/').status_code)"
    assert hosts.on_first("-c", script, hosts.dashboard).strip() == "401"
