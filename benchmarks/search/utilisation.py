"""How busy workers are, and what a search finds in the same time: the clock against cohorts.

Usage: python -m benchmarks.search.utilisation [--workers 2,8,32] [--errors 0.2,0.4] [--seeds 5]
           [--virtual 2] [--sampler tpe] [--hours 6] [--busy]

Simulated workers drive a real ledger: its proposals, its pruning and its pauses, without a second
of training. A full trial of the published point takes an hour. Others take as long as predicted
from their hyperparameters, times a log-normal factor with each of the --errors as its standard
deviation. --virtual is the number of virtual workers for each worker.

With --busy, each worker gets 20 points, and what is printed is the share of the worker-seconds that
are work, the last trials included. Otherwise the search lasts --hours, and what is printed is the
true quality of the trial with the highest score by then, by the clock and by cohorts of as many
trials as there are workers, and the paired difference with a 95 % t interval over the seeds.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import math
from collections.abc import Collection, Sequence
from typing import NamedTuple
from unittest import mock

import numpy as np
from scipy.stats import t as student

from benchmarks.command_line import parser
from search_spaces import load_space
from trainables.decrop.config import DecropConfig
from tuning.search.search import VIRTUAL_PER_WORKER
from tuning.study.attempts import TrialResult
from tuning.study.clock import Clock
from tuning.study.database import silence_optuna
from tuning.study.ledger import Ledger
from tuning.study.points import Plan, Points, Proposal

SPACE = load_space("digits")
SHARES = (0.125, 0.375, 1.0)
RUNGS = (25, 75, 200)
POINTS_PER_WORKER = 20
# Standard deviation of a score at each rung: an early one says less.
NOISE = (0.1, 0.05, 0.02)
# Quality falls with the distance from an optimum in these, in units of their range.
MATTERING = ("sigma", "learning_rate", "w_mse", "w_cosine", "w_mmd", "mix", "attack_radius")


class Cohorts(Clock):
    """A clock at which points start together, once all of the cohort before have ended.

    The baselines are the first cohort. Members reach their rungs at the same time: they are not
    compared with each other.
    """

    def __init__(self, size: int) -> None:
        self._size, self._baselines = size, Points(SPACE, 1).baselines
        self._begun, self._open = 0, set[int]()

    def __len__(self) -> int:
        return self._begun

    def _cohort(self, root: int) -> int:
        return 0 if root < self._baselines else 1 + (root - self._baselines) // self._size

    def next_start(self) -> float | None:
        cohort = self._cohort(self._begun)
        return float(cohort) if all(self._cohort(r) == cohort for r in self._open) else None

    def begin(self, durations: Sequence[float], may_end: Collection[int]) -> None:
        self._open.add(self._begun)
        self._begun += 1

    def advance(self, root: int) -> None:
        pass

    def end(self, root: int, index: int) -> None:
        self._open.discard(root)

    @property
    def running(self) -> list[int]:
        return sorted(self._open)

    def time_of(self, root: int, index: int) -> float:
        return self._cohort(root) + 0.25

    def next_rung_of(self, root: int) -> float:
        return self._cohort(root) + 0.25

    def start_of(self, root: int) -> float:
        return float(self._cohort(root))

    def end_of(self, root: int) -> float:
        return math.inf if root in self._open else self._cohort(root) + 0.5


class Task:
    """What trials cost and are worth; `error` is that of the predicted durations."""

    def __init__(self, seed: int, error: float) -> None:
        self._error = error
        place = np.random.default_rng(seed)
        self._optimum = place.uniform(0.2, 0.8, len(MATTERING))
        self._weights = place.exponential(1.0, len(MATTERING))

    def predicted(self, config: DecropConfig) -> list[float]:
        """Hours up to each rung: less without generated samples, and for smaller networks."""
        views = 1.0 if config.uses_generated_samples else 0.4
        return [share * views for share in SHARES]

    def hours(self, trial: Running) -> float:
        """How long a trial really takes to its next rung."""
        until = (0.0, *self.predicted(trial.proposal.hyperparameters))
        factor = math.exp(self._error * self._drawn(trial, len(NOISE)))
        return factor * (until[trial.passed + 1] - until[trial.passed])

    def score(self, trial: Running) -> float:
        """What a trial scores at its next rung."""
        noise = NOISE[trial.passed] * self._drawn(trial, trial.passed)
        return self.quality(trial.proposal.hyperparameters) + noise

    def quality(self, config: DecropConfig) -> float:
        """What the trial is worth, in (0, 1]."""
        far = (np.array([_place(config, name) for name in MATTERING]) - self._optimum) ** 2
        return float(np.exp(-2 * (self._weights * far).sum()))

    def _drawn(self, trial: Running, what: int) -> float:
        """The same normal number for the same point, whatever its trial is compared with."""
        return float(np.random.default_rng((trial.proposal.seed, what)).normal())


class Running(NamedTuple):
    """A trial on its way to the next rung after those that it has `passed`."""

    proposal: Proposal
    passed: int


class Simulation:
    """Workers with a ledger, until there is nothing more to do or `hours` are over."""

    def __init__(self, ledger: Ledger, task: Task, workers: int, hours: float = math.inf) -> None:
        self._ledger, self._task, self._free = ledger, task, workers
        self._waiting: list[Running] = []
        self._events: list[tuple[float, int, Running]] = []
        self._order, self._limit = itertools.count(), hours
        self.now = self.worked = 0.0
        self.found: tuple[float, float] = (-math.inf, 0.0)

    def run(self) -> None:
        """Run trials; `now` and `worked` then hold the hours of the search and of its workers."""
        self._start()
        while self._events and self._events[0][0] <= self._limit:
            self.now, _, trial = heapq.heappop(self._events)
            self._free += 1
            self._reached(trial)
            self._start()

    def _start(self) -> None:
        """Give free workers what there is to do: first the trials that waited."""
        for waiting in list(self._waiting):
            pruned = self._ledger.decision(waiting.proposal.number)
            if pruned is not None and (pruned or self._free):
                self._waiting.remove(waiting)
                self._decided(waiting, pruned)
        while self._free and (proposal := self._ledger.next_proposal()):
            self._train(Running(proposal, 0))

    def _train(self, trial: Running) -> None:
        hours = self._task.hours(trial)
        self._free -= 1
        self.worked += hours
        heapq.heappush(self._events, (self.now + hours, next(self._order), trial))

    def _reached(self, trial: Running) -> None:
        number, score = trial.proposal.number, self._task.score(trial)
        pruned = self._ledger.report(number, RUNGS[trial.passed], score, 0.0)
        if trial.passed == len(RUNGS) - 1:
            self._ledger.tell(number, TrialResult(score, RUNGS[-1], 0.0, node=""))
            quality = self._task.quality(trial.proposal.hyperparameters)
            self.found = max(self.found, (score, quality))
        elif pruned is None:
            self._waiting.append(trial)
        else:
            self._decided(trial, pruned)

    def _decided(self, trial: Running, pruned: bool) -> None:
        number, rung = trial.proposal.number, RUNGS[trial.passed]
        if pruned:
            self._ledger.tell(number, TrialResult(0.0, rung, 0.0, node=""))
        else:
            self._train(trial._replace(passed=trial.passed + 1))


def simulated(
    workers: int, error: float, seed: int, options: argparse.Namespace, *, cohorts: bool
) -> Simulation:
    """One search, by the clock or by cohorts."""
    task = Task(seed, error)
    trials = POINTS_PER_WORKER * workers if options.busy else 10**6
    virtual = max(4, workers if cohorts else round(options.virtual * workers))
    plan = Plan(trials, virtual, seed, sampler=options.sampler, durations=task.predicted)
    with mock.patch("tuning.study.ledger.Clock", Cohorts if cohorts else Clock):
        ledger = Ledger("sqlite://", f"{seed}", SPACE, plan, RUNGS)
    limit = math.inf if options.busy else options.hours
    simulation = Simulation(ledger, task, workers, limit)
    simulation.run()
    return simulation


def busy(workers: int, error: float, options: argparse.Namespace) -> str:
    """The share of worker-seconds that are work, by the clock and by cohorts."""
    found = []
    for cohorts in (False, True):
        runs = [
            simulated(workers, error, seed, options, cohorts=cohorts)
            for seed in range(options.seeds)
        ]
        found.append(np.mean([run.worked / (workers * run.now) for run in runs]))
    return f"{found[0]:.2f} by the clock, {found[1]:.2f} by cohorts"


def quality(workers: int, error: float, options: argparse.Namespace) -> str:
    """What the searches find in the same time."""
    found = np.array(
        [
            [
                simulated(workers, error, seed, options, cohorts=cohorts).found[1]
                for cohorts in (False, True)
            ]
            for seed in range(options.seeds)
        ]
    )
    difference = found[:, 0] - found[:, 1]
    half = student.ppf(0.975, options.seeds - 1) * difference.std(ddof=1) / options.seeds**0.5
    clock, cohorts = found.mean(axis=0)
    mean = difference.mean()
    return (
        f"{clock:.3f} by the clock, {cohorts:.3f} by cohorts; "
        f"{mean:+.3f} [{mean - half:+.3f}, {mean + half:+.3f}]"
    )


def _place(config: DecropConfig, name: str) -> float:
    """Where a value lies in the range of its hyperparameter, in [0, 1]; weights of 0 at 0."""
    parameter, value = SPACE.parameters[name], float(getattr(config, name))
    low, high = (float(corner) for corner in parameter.corners()[-2:])
    if not value:
        return 0.0
    if parameter.log:
        value, low, high = math.log(value), math.log(low), math.log(high)
    return (value - low) / (high - low)


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--workers", default="2,8,32")
    arguments.add_argument("--errors", default="0.2,0.4")
    arguments.add_argument("--seeds", type=int, default=5)
    arguments.add_argument("--virtual", type=float, default=VIRTUAL_PER_WORKER)
    arguments.add_argument("--sampler", default="tpe")
    arguments.add_argument("--hours", type=float, default=6.0)
    arguments.add_argument("--busy", action="store_true")
    options = arguments.parse_args()
    silence_optuna()
    for workers, error in itertools.product(
        map(int, options.workers.split(",")), map(float, options.errors.split(","))
    ):
        line = (busy if options.busy else quality)(workers, error, options)
        print(f"{workers} workers, durations predicted to {error:g}: {line}", flush=True)


if __name__ == "__main__":
    main()
