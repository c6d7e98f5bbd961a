from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq

from results.files import TRIALS
from tests.support.ledgers import SPACE, drive, finish, open_ledger
from tuning.cluster.connection import Cluster
from tuning.cluster.context import Context
from tuning.cluster.resources import Resources
from tuning.cluster.storage import local_storage
from tuning.config import RunConfig
from tuning.search.search import Part, SearchProgress, search, sources
from tuning.study.ledger import Ledger

NOBODY: Any = None


class Shown:
    """Remembers what a bar was told."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, float | None]] = []

    def __call__(self, units: int, left: float | None = None) -> None:
        self.calls.append((units, left))


def setting(folder: Path, dataset: str = "digits", name: str = "x") -> Any:
    return SimpleNamespace(
        name=name,
        space=SPACE,
        folder=folder,
        dataset=SimpleNamespace(name=dataset),
        shots=SimpleNamespace(train_labels=range(80)),
    )


def context(folder: Path) -> Context:
    cluster = Cluster("", None, Resources(1, 0.0, 2), local_storage(folder))
    return Context(RunConfig(name="x", out=folder), cluster, NOBODY)


def part(folder: Path, ledger: Ledger) -> Part:
    return Part(setting(folder), NOBODY, ledger, NOBODY, NOBODY)


def test_a_finished_search_starts_nothing_and_writes_what_came_of_it(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    drive(ledger, workers=2)
    assert search([part(tmp_path, ledger)], context(tmp_path)) == {}
    rows = pq.read_table(tmp_path / TRIALS).to_pylist()
    records = ledger.attempts.records()
    assert [row["root"] for row in rows] == [record.root for record in records]
    for name in SPACE.parameters:
        assert [row[name] for row in rows] == [getattr(r.hyperparameters, name) for r in records]


def test_progress_counts_trials_of_all_settings_once(tmp_path: Path) -> None:
    first, second = open_ledger(tmp_path, name="a"), open_ledger(tmp_path, name="b")
    drive(first, workers=1, stop_after=3)
    shown, facts = Shown(), list[str]()

    def told(name: str, fact: str) -> None:
        facts.append(fact)

    progress = SearchProgress({"a": first, "b": second}, shown, told)
    progress.show()
    assert shown.calls == [(3, None)]
    for ledger in (first, second, second):
        proposal = ledger.next_proposal()
        assert proposal is not None
        finish(ledger, proposal)
        progress.show()
    assert [units for units, _ in shown.calls] == [3, 1, 1, 1]
    # It need not wait for the next facts.
    progress._due = 0.0
    progress.show()
    states, best = facts[-1].split("; best score ")
    assert states == "trials: 6 complete, 0 under way"
    highest = [ledger.attempts.highest or 0.0 for ledger in (first, second)]
    assert best == "{:.3f} in a, {:.3f} in b".format(*highest)


def test_progress_says_how_long_it_takes_once_a_trial_has_ended(tmp_path: Path) -> None:
    ledger, shown = open_ledger(tmp_path), Shown()
    progress = SearchProgress({"a": ledger}, shown)
    progress.show()
    proposal = ledger.next_proposal()
    assert proposal is not None
    finish(ledger, proposal)
    # It need not wait for the next estimate.
    progress._due = 0.0
    progress.show()
    (_, before), (_, after) = shown.calls
    assert before is None
    assert after is not None
    assert after > 0


def test_a_setting_takes_over_from_the_one_before_it_of_the_same_data_set(tmp_path: Path) -> None:
    settings = [
        setting(tmp_path, dataset, name)
        for dataset, name in (("a", "a1"), ("b", "b1"), ("a", "a2"), ("a", "a3"))
    ]
    found = sources(settings, RunConfig(name="x", transfer=2))
    assert found == {"a1": None, "b1": None, "a2": "a1", "a3": "a2"}
    assert set(sources(settings, RunConfig(name="x", transfer=0)).values()) == {None}
