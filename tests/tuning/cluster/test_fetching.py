"""Tasks that wait for what a reference stands for."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray

from tests.support.runs import HANGING
from tuning.cluster.fetching import fetched

WORKERS = 2
# Ray gives cores that a task lends to another at once.
A_WHILE = 2.0


class Gate:
    def __init__(self) -> None:
        self.event = asyncio.Event()

    async def passed(self) -> str:
        await self.event.wait()
        return "passed"

    async def open(self, is_open: bool) -> None:
        self.event.set() if is_open else self.event.clear()


@ray.remote
def waits(reference: list[ray.ObjectRef[str]], begun: Path) -> str:
    begun.touch()
    return fetched(reference[0])


@ray.remote
def fails() -> str:
    raise ValueError("on purpose")


def workers() -> set[int]:
    """The workers of this process's Ray."""

    def found() -> Iterator[int]:
        for child in psutil.Process().children(recursive=True):
            command = " ".join(child.cmdline())
            if "default_worker.py" in command or command.startswith("ray::"):
                yield child.pid

    return {*found()}


@pytest.mark.usefixtures("local_ray")
def test_a_task_that_waits_keeps_its_cores(tmp_path: Path) -> None:
    gate: Any = ray.remote(num_cpus=0)(Gate).remote()

    def submitted(name: str) -> list[ray.ObjectRef[str]]:
        files = [tmp_path / f"{name}{number}" for number in range(2 * WORKERS)]
        return [waits.remote([gate.passed.remote()], file) for file in files]

    ray.get(gate.open.remote(True))
    ray.get(submitted("before"))
    ray.get(gate.open.remote(False))
    before, tasks, deadline = workers(), submitted("then"), time.monotonic() + HANGING
    assert len(before) > WORKERS
    while len([*tmp_path.glob("then*")]) < WORKERS:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(A_WHILE)
    assert workers() <= before
    assert len([*tmp_path.glob("then*")]) == WORKERS
    ray.get(gate.open.remote(True))
    assert ray.get(tasks) == ["passed"] * len(tasks)


@pytest.mark.usefixtures("local_ray")
def test_what_cannot_be_had_is_an_error() -> None:
    with pytest.raises(ray.exceptions.RayTaskError, match="on purpose"):
        fetched(fails.remote())
