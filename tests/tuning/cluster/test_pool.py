"""Tasks that wait for workers: in which order they get them, and what an ending leaves."""

import asyncio
import gc
import signal
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing
from functools import partial
from typing import Any

import pytest
import ray

from tests.support.runs import HANGING
from tests.support.signals import handlers_kept, pausing_undone
from tuning.cluster import hosts
from tuning.cluster.ending import ENDING
from tuning.cluster.pool import TaskPool, Urgency
from tuning.cluster.resources import Resources
from tuning.errors import Ended

ONE_BY_ONE = Resources(1, 0.0, 1)


@ray.remote
def same(value: str) -> str:
    return value


@ray.remote
def takes_a_moment(value: str) -> str:
    time.sleep(0.3)
    return value


@ray.remote
def fail() -> str:
    raise ValueError("on purpose")


@pytest.fixture
def one_by_one(monkeypatch: pytest.MonkeyPatch) -> Iterator[TaskPool]:
    """A pool that has only one task submitted at a time."""
    monkeypatch.setattr(hosts, "QUEUED_PER_WORKER", 1)
    with closing(TaskPool(ONE_BY_ONE)) as pool:
        yield pool


@pytest.mark.usefixtures("local_ray")
def test_the_most_urgent_get_workers_first_and_equals_in_their_order(one_by_one: TaskPool) -> None:
    submitted: list[str] = []

    def submit(name: str) -> ray.ObjectRef[str]:
        submitted.append(name)
        return same.remote(name)

    async def compete() -> list[str]:
        votes, training = Urgency.CERTIFICATION_VOTES, Urgency.CONFIRMATION_TRAINING
        wanted = [("a", votes), ("b", votes), ("c", training), ("d", votes), ("e", training)]
        results = (one_by_one.result(partial(submit, name), how) for name, how in wanted)
        return await asyncio.gather(*results)

    assert one_by_one.run(compete()) == ["a", "b", "c", "d", "e"]
    # The first one found the worker free.
    assert submitted == ["a", "c", "e", "b", "d"]


@pytest.mark.usefixtures("local_ray")
def test_as_many_are_submitted_as_workers_can_be_kept_busy_with() -> None:
    pool = TaskPool(Resources(1, 0.0, 2))
    most = 0

    def seen() -> ray.ObjectRef[str]:
        nonlocal most
        most = max(most, pool._running)
        return same.remote("x")

    async def short() -> None:
        await pool.admission(Urgency.CERTIFICATION_VOTES)
        await pool.outcome(seen)

    async def many(one: Callable[[], Coroutine[Any, Any, object]]) -> None:
        await asyncio.gather(*(one() for _ in range(20)))

    pool.run(many(short))
    assert most == 2 * hosts.QUEUED_PER_WORKER
    most = 0
    pool.run(many(partial(pool.result, seen, Urgency.FINAL_TRAINING)))
    assert most == 2
    assert pool._running == 0


@pytest.mark.usefixtures("local_ray")
def test_urgent_votes_do_not_wait_for_all_trainings() -> None:
    pool, ended = TaskPool(ONE_BY_ONE), list[str]()

    async def train(name: str) -> None:
        submit = partial(takes_a_moment.remote, name)
        ended.append(await pool.result(submit, Urgency.CONFIRMATION_TRAINING))

    async def vote() -> None:
        await pool.admission(Urgency.FIRST_TABLE)
        ended.append(await pool.outcome(partial(same.remote, "votes")))

    async def both() -> None:
        trainings = [asyncio.create_task(train(name)) for name in "abcd"]
        await asyncio.sleep(0)
        await asyncio.gather(vote(), *trainings)

    pool.run(both())
    assert ended.index("votes") < ended.index("b")


@pytest.mark.usefixtures("local_ray")
def test_a_task_that_fails_leaves_its_place_to_others(one_by_one: TaskPool) -> None:
    async def both() -> list[object]:
        urgency = Urgency.MEASUREMENT
        results = (one_by_one.result(s, urgency) for s in (fail.remote, partial(same.remote, "x")))
        return await asyncio.gather(*results, return_exceptions=True)

    failed, done = one_by_one.run(both())
    assert "on purpose" in str(failed)
    assert done == "x"

    def cannot_be_submitted() -> ray.ObjectRef[str]:
        raise MemoryError

    with pytest.raises(MemoryError):
        one_by_one.run(one_by_one.result(cannot_be_submitted, Urgency.MEASUREMENT))
    with pytest.raises(ValueError, match="on purpose"):
        one_by_one.run(one_by_one.result(fail.remote, Urgency.MEASUREMENT))


@pytest.mark.usefixtures("local_ray")
def test_after_sigterm_what_was_submitted_is_still_received_and_nothing_else_begins(
    one_by_one: TaskPool,
) -> None:
    def ends_the_driver() -> ray.ObjectRef[str]:
        signal.raise_signal(signal.SIGTERM)
        return same.remote("submitted")

    received: list[str] = []

    async def work() -> None:
        received.append(await one_by_one.result(ends_the_driver, Urgency.FINAL_TRAINING))
        received.append(await one_by_one.result(partial(same.remote, "x"), Urgency.FINAL_TRAINING))

    @ENDING.listening("continue")
    def run() -> None:
        ENDING.grace = HANGING
        one_by_one.run(work())

    with handlers_kept(), pausing_undone(), pytest.raises(Ended) as caught:
        run()
    assert caught.value.exit_code == 143
    assert received == ["submitted"]


@pytest.mark.usefixtures("local_ray")
def test_beside_something_else_only_spare_workers_are_used(one_by_one: TaskPool) -> None:
    free, done = False, list[str]()

    async def work() -> None:
        for name in ("first", "second"):
            done.append(await one_by_one.result(partial(same.remote, name), Urgency.MEASUREMENT))

    working = one_by_one.begin(work())
    # The worker is taken again when the first one has it behind.
    with one_by_one.beside(lambda: int(free and not done)):
        for _ in range(20):
            one_by_one.turn()
        assert one_by_one.idle
        free, deadline = True, time.monotonic() + HANGING
        while not done:
            one_by_one.turn()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        for _ in range(20):
            one_by_one.turn()
        assert one_by_one.idle
    assert done == ["first"]
    one_by_one.run(one_by_one.until(working.done))
    assert done == ["first", "second"]


@pytest.mark.usefixtures("local_ray")
def test_who_watches_is_told_how_many_workers_are_busy_with_what_the_pool_does_and_others() -> None:
    seen: list[tuple[int, int]] = []
    pool = TaskPool(Resources(1, 0.0, 3), lambda busy, of: seen.append((busy, of)))

    async def work() -> None:
        await pool.result(partial(same.remote, "a"), Urgency.MEASUREMENT)

    with pool.beside(lambda: 1, lambda: 2):
        pool.turn()
        assert seen[-1] == (2, 3)
        working = pool.begin(work())
        deadline = time.monotonic() + HANGING
        while not working.done():
            pool.turn()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert (3, 3) in seen
        pool.turn()
        assert seen[-1] == (2, 3)
    pool.run(work())
    assert (1, 3) in seen


def test_of_many_failures_only_the_awaited_one_is_told(caplog: pytest.LogCaptureFixture) -> None:
    async def full(disk: str) -> None:
        raise OSError(f"{disk} is full")

    async def write_both() -> None:
        tasks = [asyncio.create_task(full(disk)) for disk in ("one", "other")]
        await asyncio.wait(tasks)
        await tasks[0]

    with closing(TaskPool(ONE_BY_ONE)) as pool, pytest.raises(OSError, match="one is full"):
        pool.run(write_both())
    gc.collect()
    assert not caplog.records


def test_other_errors_of_the_loop_are_told(caplog: pytest.LogCaptureFixture) -> None:
    async def fail_later() -> None:
        asyncio.get_running_loop().call_soon(int, "no number")
        await asyncio.sleep(0)

    with closing(TaskPool(ONE_BY_ONE)) as pool:
        pool.run(fail_later())
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [ValueError]
