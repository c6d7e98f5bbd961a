"""Studies whose events happen in any order, with interruptions of trials and of the driver."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from typing import NamedTuple

from tests.support.ledgers import RUNGS, result
from tuning.study.ledger import Ledger
from tuning.study.points import Proposal

Outcome = tuple[str, str, dict[int, float]]


class Running(NamedTuple):
    """A trial, and how many rungs it has left behind."""

    proposal: Proposal
    passed: int


class Disorder:
    """Drives a study on `workers` workers; `chance` picks what happens next.

    `open_again` opens the study's ledger, as a driver does that starts again.
    """

    def __init__(
        self, open_again: Callable[[], Ledger], workers: int, chance: random.Random
    ) -> None:
        self._open, self._workers, self._chance = open_again, workers, chance
        self._begin()

    def finish(self, trouble: float = 0.1) -> dict[int, Outcome]:
        """Drive the study to its end: state, hyperparameters and values of each point."""
        while not self.ledger.finished:
            if self._chance.random() < trouble:
                self._chance.choice([self._begin, self._interrupt])()
            else:
                self._go_on()
        settled = self.ledger.attempts.settled
        return {
            root: (
                trial.state.name,
                str(trial.user_attrs["hyperparameters"]),
                dict(trial.intermediate_values),
            )
            for root, trial in sorted(settled.items())
        }

    def _begin(self) -> None:
        self.ledger = self._open()
        self.ledger.reconcile()
        self._running: list[Running] = []
        self._waiting: list[Running] = []

    def _interrupt(self) -> None:
        if self._running:
            number = self._take().proposal.number
            self.ledger._interruptions.clear()
            self.ledger.interrupt(number, "the worker died")

    def _go_on(self) -> None:
        """Fill the workers, in part, and let one trial reach its next rung."""
        for waiting in list(self._waiting):
            pruned = self.ledger.decision(waiting.proposal.number)
            free = len(self._running) < self._workers
            if pruned or (pruned is False and free and self._chance.random() < 0.7):
                self._waiting.remove(waiting)
                self._decided(waiting, pruned)
        while len(self._running) < self._workers and self._chance.random() < 0.8:
            proposal = self.ledger.next_proposal()
            if proposal is None:
                break
            self._running.append(Running(proposal, 0))
        if self._running:
            self._reach(self._take())

    def _take(self) -> Running:
        return self._running.pop(self._chance.randrange(len(self._running)))

    def _reach(self, trial: Running) -> None:
        number, rung = trial.proposal.number, RUNGS[trial.passed]
        value = self._score(number, rung)
        pruned = self.ledger.report(number, rung, value, 1.0)
        reached = trial._replace(passed=trial.passed + 1)
        if rung == RUNGS[-1]:
            self.ledger.tell(number, result(value, accuracy=0.5))
        elif pruned is None:
            self._waiting.append(reached)
        else:
            self._decided(reached, pruned)

    def _decided(self, trial: Running, pruned: bool) -> None:
        number, rung = trial.proposal.number, RUNGS[trial.passed - 1]
        if pruned:
            self.ledger.tell(number, result(self._score(number, rung), rung, accuracy=0.5))
        else:
            self._running.append(trial)

    def _score(self, number: int, rung: int) -> float:
        """Between 0 and 1, from the point and the rung alone."""
        root = self.ledger._study.trials[number].user_attrs["root"]
        drawn = hashlib.sha256(f"{root} {rung}".encode()).digest()
        return int.from_bytes(drawn[:4], "big") / 2**32
