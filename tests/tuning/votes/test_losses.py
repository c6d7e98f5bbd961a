"""Votes when workers die, networks or disks fail, or the run is to end."""

import os
import signal
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.support.counts import count_votes, recorded
from tests.support.runs import HANGING
from tests.support.signals import handlers_kept
from tests.support.vote_jobs import job, model, results, workers
from tuning.cluster.ending import ENDING
from tuning.errors import Ended
from tuning.votes.store import Counts, VoteKey, VoteStore
from tuning.votes.task import Reference, send_task


class DiesOnce(nn.Module):
    """Ends its process, the first time, in its second pass: what it counted is never returned."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.inner, self.folder, self.passes = model(), folder, 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.inner(images)
        self.passes += 1
        if self.passes == 2 and not any(self.folder.iterdir()):
            (self.folder / "died").touch()
            os._exit(1)
        return logits


@pytest.mark.usefixtures("local_ray")
def test_a_worker_that_dies_before_it_returns_its_counts_changes_none(tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    dying = replace(job(), model=DiesOnce(marks))
    expected = count_votes([job()], VoteStore(tmp_path / "undisturbed.db"), workers(2))
    found = count_votes([dying], VoteStore(tmp_path / "votes.db"), workers(2))
    assert list(marks.iterdir())
    assert results(found) == results(expected)
    kept = [recorded(tmp_path / f"{name}.db") for name in ("votes", "undisturbed")]
    assert {key: c.votes for key, c in kept[0].items()} == {
        key: c.votes for key, c in kept[1].items()
    }


class Fails(nn.Module):
    """A network that cannot take such images."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        raise ValueError("on purpose")


class Full(VoteStore):
    """A store on a full disk."""

    def put(self, counts: Mapping[VoteKey, Counts]) -> None:
        raise OSError("no space left")


@pytest.mark.usefixtures("local_ray")
def test_whoever_waits_for_votes_gets_the_error_that_prevents_them(tmp_path: Path) -> None:
    store = VoteStore(tmp_path / "votes.db")
    with pytest.raises(ValueError, match="on purpose"):
        count_votes([replace(job(), model=Fails())], store, workers(1))
    with pytest.raises(OSError, match="no space left"):
        count_votes([job()], Full(tmp_path / "full.db"), workers(2))


@pytest.mark.usefixtures("local_ray")
def test_a_run_that_ends_records_the_votes_that_are_being_counted_and_begins_no_others(
    tmp_path: Path,
) -> None:
    sent: list[VoteKey] = []

    def ends_the_driver(*arguments: Any) -> Reference:
        sent.extend(arguments[3])
        if len(sent) >= 2:
            signal.raise_signal(signal.SIGTERM)
        return send_task(*arguments)

    @ENDING.listening("continue")
    def count() -> None:
        ENDING.grace = HANGING
        store = VoteStore(tmp_path / "votes.db")
        count_votes([job()], store, workers(1), send=ends_the_driver)

    with handlers_kept(), pytest.raises(Ended) as caught:
        count()
    assert caught.value.exit_code == 143
    found = recorded(tmp_path / "votes.db")
    assert set(found) == set(sent)
    assert {key.image for key in found} < set(range(6))
    counted = results(count_votes([job()], VoteStore(tmp_path / "votes.db"), workers(1)))
    assert counted == results(count_votes([job()], VoteStore(tmp_path / "new.db"), workers(1)))
