"""Searches by Ray Tune with a trainable that does what a test wants."""

from pathlib import Path
from typing import Any, ClassVar

from ray import tune

from tuning.cluster.pool import TaskPool
from tuning.cluster.resources import Resources
from tuning.cluster.storage import local_storage
from tuning.search.budget import Limits
from tuning.search.searcher import Study
from tuning.search.tune import run_search
from tuning.study.ledger import Ledger


class NoBoard:
    """No TensorBoard."""

    best: ClassVar[dict[int, float]] = {}

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


def search_with(
    trainable: type[tune.Trainable],
    ledger: Ledger,
    folder: Path,
    task: Any = None,
    pool: TaskPool | None = None,
) -> None:
    """Run all trials of `ledger` on two workers; the trainable has `task` as that of `x`."""
    board: Any = NoBoard()
    run_search(
        [Study("x", ledger, task, board, lambda: None)],
        pool=pool or TaskPool(Resources(1, 0.0, 2)),
        scratch=local_storage(folder / "tune"),
        limits=Limits(),
        transfer=0,
        trainable=trainable,
    )
