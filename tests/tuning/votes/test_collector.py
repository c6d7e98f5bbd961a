"""Votes as Ray tasks: the same for any workers, order and pieces, and each counted once."""

import asyncio
import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import ray
import torch
from torch import Tensor, nn

from tests.support.counts import count_votes, recorded
from tests.support.vote_jobs import SEED, SIGMA, VOTES, casting, job, model, results, workers
from trainables.smoothing.certify import certifying
from trainables.smoothing.counting import total_votes
from trainables.smoothing.noise import Noise, plan_blocks
from trainables.smoothing.procedures import Adaptive
from tuning.cluster.pool import TaskPool, Urgency
from tuning.votes import collector as votes
from tuning.votes.collector import Collector, task_votes
from tuning.votes.job import Outcome
from tuning.votes.store import Counts, VoteKey, VoteStore
from tuning.votes.task import Reference, send_task


@pytest.mark.usefixtures("local_ray")
def test_counts_do_not_depend_on_workers_order_or_resumption(tmp_path: Path) -> None:
    expected = [
        total_votes(
            model(), image, Noise(SIGMA), plan_blocks(VOTES, SEED, "estimate", index, SIGMA)
        )
        for index, image in zip(job().indices, job().images, strict=True)
    ]
    for count in (1, 2, 4):
        store = VoteStore(tmp_path / f"{count}.db")
        assert results(count_votes([job()], store, workers(count))) == [expected]
    resumed = VoteStore(tmp_path / "resumed.db")
    count_votes([job(range(2, 5))], resumed, workers(2))
    done: list[int] = []
    assert results(count_votes([job()], resumed, workers(2), done.append)) == [expected]
    assert sum(done) == 6 * VOTES


@pytest.mark.usefixtures("local_ray")
def test_pieces_as_a_gpu_counts_them_hold_the_same_votes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = count_votes([job()], VoteStore(tmp_path / "cpu.db"), workers(2))
    monkeypatch.setitem(votes.PIECES, "cpu", votes.PIECES["cuda"])
    found = count_votes([job()], VoteStore(tmp_path / "cuda.db"), workers(2))
    assert results(found) == results(expected)
    assert len(recorded(tmp_path / "cpu.db")) == 18
    assert len(recorded(tmp_path / "cuda.db")) == 6


class Read(nn.Module):
    """Leaves a mark for each time that a process reads it."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.inner, self.folder = model(), folder

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        (self.folder / f"{os.getpid()}-{uuid4()}").touch()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.inner(images)
        return logits


@pytest.mark.usefixtures("local_ray")
def test_a_worker_reads_a_model_once_for_all_its_tasks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    monkeypatch.setattr(votes, "TASK_SECONDS", 1e-6)
    count_votes([replace(job(), model=Read(marks))], VoteStore(tmp_path / "votes.db"), workers(2))
    readers = [mark.name.split("-")[0] for mark in marks.iterdir()]
    # Of the 18 pieces each is a task.
    assert len(recorded(tmp_path / "votes.db")) == 18
    assert 1 <= len(readers) == len(set(readers)) <= 2


@pytest.mark.usefixtures("local_ray")
def test_images_ask_for_as_many_votes_as_they_need(tmp_path: Path) -> None:
    procedure = Adaptive(100, 20_000, 0.001, (0.1, 0.3))
    evaluate = partial(certifying, procedure, SIGMA)
    done: list[int] = []
    jobs = [job(evaluate=evaluate, most=20_100), job(range(3), evaluate=evaluate, most=20_100)]
    store = VoteStore(tmp_path / "a.db")
    whole, part = count_votes(jobs, store, workers(2), done.append)
    # The same model on the same images: counted once, and the same for both.
    assert results([part]) == results([whole[:3]])
    assert sum(key.stop - key.start for key in recorded(store.path)) == sum(
        a.result.votes for a in whole
    )
    assert sum(done) == 9 * 20_100
    cast = [outcome.result.votes for outcome in whole]
    assert min(cast) < 2000 < 20_100 < sum(cast) < 6 * 20_100
    # What one worker alone, without Ray, would have found.
    for index, outcome in enumerate(whole):
        evaluation = evaluate()
        request, found = next(evaluation), None
        while found is None:
            blocks = plan_blocks(
                request.stop, SEED, request.phase, index, SIGMA, start=request.start
            )
            try:
                request = evaluation.send(
                    total_votes(model(), job().images[index], Noise(SIGMA), blocks)
                )
            except StopIteration as ended:
                found = ended.value
        assert found == outcome.result


@ray.remote
def train() -> None:
    """A long task."""


@pytest.mark.usefixtures("local_ray")
def test_urgent_votes_come_before_trainings_and_votes_that_were_there_first(tmp_path: Path) -> None:
    sent: list[str] = []

    def send_votes(name: str, *what: Any) -> Reference:
        sent.append(name)
        return send_task(name, *what)

    def send_training() -> ray.ObjectRef[None]:
        sent.append("training")
        return train.remote()

    with closing(TaskPool(workers(1))) as pool:
        collector = Collector(VoteStore(tmp_path / "votes.db"), pool, send_votes)

        async def compete() -> None:
            begun: list[asyncio.Task[Any]] = [
                asyncio.create_task(pool.result(send_training, Urgency.CONFIRMATION_TRAINING))
                for _ in range(3)
            ]
            few = replace(job(), name="few", model_hash="few")
            begun.append(asyncio.create_task(collector.count(few, Urgency.CONFIRMATION_VOTES)))
            while not pool._waiting:
                await asyncio.sleep(0)
            first = replace(job(), name="first", model_hash="first")
            await asyncio.gather(collector.count(first, Urgency.FIRST_TABLE), *begun)

        pool.run(compete())
        assert pool.idle
    # The first training had the worker already.
    order = list(dict.fromkeys(sent[1:]))
    assert order == ["votes: first", "training", "votes: few"]
    assert sent.count("training") == 3


@pytest.mark.usefixtures("local_ray")
def test_a_worker_whose_votes_an_urgent_one_has_taken_is_left_to_others(tmp_path: Path) -> None:
    with closing(TaskPool(workers(1))) as pool:
        collector = Collector(VoteStore(tmp_path / "votes.db"), pool)

        async def compete() -> None:
            busy = asyncio.create_task(pool.result(train.remote, Urgency.MEASUREMENT))
            waits = asyncio.create_task(pool.result(train.remote, Urgency.CONFIRMATION_TRAINING))
            later = asyncio.create_task(
                collector.count(job(range(3, 6)), Urgency.CERTIFICATION_VOTES)
            )
            while len(pool._waiting) < 2:
                await asyncio.sleep(0)
            # Of the same model, so that a task can count all of them.
            await asyncio.gather(
                collector.count(job(range(3)), Urgency.FIRST_TABLE), busy, waits, later
            )

        pool.run(compete())
        pool.run(pool.until(lambda: not pool._waiting))
        assert pool.idle


@pytest.mark.usefixtures("local_ray")
def test_recorded_counts_are_not_counted_again(tmp_path: Path) -> None:
    store = VoteStore(tmp_path / "votes.db")
    count_votes([job()], store, workers(2))
    planted = {key: Counts([1, 2, 3], 0.5, "host") for key in recorded(store.path)}
    store.put(planted)
    (outcomes,) = count_votes([job()], store, workers(2))
    # In pieces of a thousand.
    assert outcomes == [Outcome([3, 6, 9], 1.5)] * 6


@pytest.mark.usefixtures("local_ray")
def test_a_task_carries_its_images_alone_and_each_once(tmp_path: Path) -> None:
    sent: list[tuple[Sequence[Tensor], Sequence[VoteKey]]] = []

    def watched(
        name: str, model: Any, images: Sequence[Tensor], keys: Sequence[VoteKey], resources: Any
    ) -> Reference:
        sent.append((images, keys))
        return send_task(name, model, images, keys, resources)

    count_votes([job()], VoteStore(tmp_path / "votes.db"), workers(2), send=watched)
    assert max(len(keys) for _, keys in sent) > 1
    for images, keys in sent:
        # Pieces of an image share one tensor, which is no part of a larger one.
        assert len({id(image) for image in images}) == len({key.image for key in keys})
        assert all(image.untyped_storage().nbytes() == image.nbytes for image in images)


@pytest.mark.parametrize(
    ("workers", "waiting", "expected"),
    [
        (1, 10**9, 5_000),
        (100, 10**9, 5_000),
        # A thousand workers cannot be served every second,
        (1000, 10**9, 50_000),
        # but are not kept waiting for each other either.
        (1000, 8_000_000, 8_000),
        (1000, 1_000_000, 5_000),
    ],
)
def test_tasks_are_longer_where_one_driver_serves_many_workers(
    workers: int, waiting: int, expected: int
) -> None:
    assert task_votes(5_000, workers, waiting) == expected


@pytest.mark.usefixtures("local_ray")
def test_phases_draw_fresh_noise(tmp_path: Path) -> None:
    store = VoteStore(tmp_path / "votes.db")
    jobs = [job(evaluate=partial(casting, VOTES, phase)) for phase in ("select", "estimate")]
    first, second = results(count_votes(jobs, store, workers(2)))
    assert first != second


@pytest.mark.usefixtures("local_ray")
def test_counts_under_other_noise_or_of_another_model_are_never_taken_for_these(
    tmp_path: Path,
) -> None:
    store = VoteStore(tmp_path / "votes.db")
    image, blocks = job().images[:1], plan_blocks(VOTES, SEED, "estimate", 0, SIGMA)
    expected = [
        total_votes(model(), image[0], Noise(SIGMA, steps), blocks) for steps in (0, 255, 16)
    ]
    for _ in range(2):  # counted, and then read
        for steps, counts in zip((0, 255, 16), expected, strict=True):
            one = replace(job(range(1)), noise=Noise(SIGMA, steps))
            assert results(count_votes([one], store, workers(2))) == [[counts]]
    # What is there of another model is not even looked at.
    store.put(
        {
            key._replace(model="other"): Counts([key.size, 0, 0], 0.0, "host")
            for key in recorded(store.path)
        }
    )
    assert results(count_votes([job(range(1))], store, workers(2))) == [[expected[0]]]
    assert len({tuple(counts) for counts in expected}) == 3


@pytest.mark.usefixtures("local_ray")
def test_what_the_driver_holds_does_not_grow_with_the_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[int] = []
    record = Collector._record

    def watched(collector: Collector, *found: Any) -> None:
        held.append(len(collector._waiting))
        record(collector, *found)

    monkeypatch.setattr(Collector, "_record", watched)
    monkeypatch.setattr(votes, "FIRST_VOTES", 2000)
    monkeypatch.setattr(votes, "TASK_SECONDS", 0.001)
    monkeypatch.setattr(votes, "TASKS_A_SECOND", 1e4)
    one, images = job(), 400
    many = replace(one, images=one.images[:1].expand(images, -1, -1, -1), indices=range(images))
    (outcomes,) = count_votes([many], VoteStore(tmp_path / "votes.db"), workers(2))
    assert len(outcomes) == images
    # Of three pieces an image.
    assert max(held) < 0.4 * 3 * images
