from collections.abc import Iterator
from typing import Any

import pytest

from tuning.cluster.pool import TaskPool


@pytest.fixture(autouse=True)
def _pools_are_closed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Close the pools of each test: an open event loop is blamed on a later one, by chance."""
    made: list[TaskPool] = []
    begin = TaskPool.__init__

    def remembered(pool: TaskPool, *arguments: Any) -> None:
        begin(pool, *arguments)
        made.append(pool)

    monkeypatch.setattr(TaskPool, "__init__", remembered)
    yield
    for pool in made:
        pool.close()
