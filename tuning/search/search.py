"""The search in all settings of a run at once: its inputs, its progress and its results."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from ray import tune

from results.files import TENSORBOARD
from results.schema import STATES
from results.terminal import objective_label
from trainables.acceleration.voting import Precision
from trainables.models.classifiers import BaseClassifier
from trainables.smoothing.objective import Objective
from trainables.task import TrialTask
from trainables.trainable import DecropTrainable
from tuning.cluster.context import Context
from tuning.cluster.pausing import PauseRequests
from tuning.cluster.storage import SCRATCH
from tuning.config import RunConfig
from tuning.monitoring.metrics import trial_ended
from tuning.monitoring.progress import Advance
from tuning.monitoring.tensorboard import StudyBoard
from tuning.search.boards import study_place, watch
from tuning.search.budget import Limits, search_share
from tuning.search.durations import predicted_durations
from tuning.search.samples import SharedSamples
from tuning.search.searcher import Study
from tuning.search.time_left import remaining_seconds
from tuning.search.trials_table import PAUSE, TrialsTable, write_trials
from tuning.search.tune import run_search
from tuning.setting.classifier import Access
from tuning.setting.setting import Setting
from tuning.study.database import silence_optuna
from tuning.study.ledger import Ledger
from tuning.study.points import Plan

# Virtual workers for each worker of the first start: with fewer, some would wait when durations are
# badly predicted; with more, proposals would know less.
VIRTUAL_PER_WORKER = 2
# At least: so a few workers more or less make no difference.
FEWEST_VIRTUAL_WORKERS = 4


class Part(NamedTuple):
    """One setting with everything that its search needs.

    `source` is the setting with the same data set whose best points it evaluates first, if any.
    """

    setting: Setting
    access: Access
    ledger: Ledger
    task: TrialTask
    board: StudyBoard
    source: str | None = None


def prepare(
    setting: Setting,
    access: Access,
    source: str | None,
    context: Context,
    *,
    run_id: str,
    precision: Precision,
) -> Part:
    """Open the ledger of a setting, and gather what its trials share.

    `run_id` distinguishes the run from others of the same name in the same database; `precision` is
    the one in which trials train.

    Raises:
        ConfigError: when the study belongs to a different run, or its search space was different.
        StudyError: when the database fails.
    """
    task = _task(setting, access.trained_through, context, precision)
    return Part(
        setting,
        access,
        _ledger(setting, source, context, run_id, task),
        task,
        StudyBoard(context.config.run_folder / TENSORBOARD / setting.name),
        source,
    )


def search(
    parts: Sequence[Part],
    context: Context,
    trainable: type[tune.Trainable] = DecropTrainable,
) -> dict[str, float]:
    """Run all open trials, and write their results; returns the seconds by setting.

    All settings are searched side by side, so that each fills the pauses of the others.
    `trainable` is the class whose instances run trials.
    """
    seconds = _search(parts, context, trainable)
    for part in parts:
        write_trials(part.setting, part.ledger.attempts.records(), context)
    return seconds


def sources(settings: Sequence[Setting], config: RunConfig) -> dict[str, str | None]:
    """For each setting, the previous one with the same data set; it takes over its best points."""
    latest: dict[str, str] = {}
    found: dict[str, str | None] = {}
    for setting in settings:
        found[setting.name] = latest.get(setting.dataset.name) if config.transfer else None
        latest[setting.dataset.name] = setting.name
    return found


def search_step(parts: Sequence[Part]) -> str:
    """What progress calls the search."""
    return f"{parts[0].setting.name if len(parts) == 1 else f'{len(parts)} settings'}: search"


class SearchProgress:
    """Calls `advance` with the number of trials ended since the last call, and the time left.

    `tell` is called with the name of a fact and what is known of the trials of all `ledgers`.
    """

    def __init__(
        self,
        ledgers: Mapping[str, Ledger],
        advance: Advance,
        tell: Callable[[str, str], None] = lambda name, fact: None,
    ) -> None:
        self._by_setting, self._advance, self._tell = ledgers, advance, tell
        self._ledgers = list(ledgers.values())
        self._started, self._before = time.perf_counter(), self._worked()
        self._shown, self._due = 0, -math.inf
        self._left: float | None = None

    def show(self) -> None:
        """Report the progress of the search."""
        done = sum(len(ledger.attempts.settled) for ledger in self._ledgers)
        now = time.perf_counter()
        if now >= self._due:
            worked = self._worked() - self._before
            rate = worked / (now - self._started) if worked else 0.0
            self._left = remaining_seconds(self._ledgers, rate)
            self._tell("trials", self._facts)
            ended = time.perf_counter()
            self._due = ended + PAUSE * (ended - now)
        self._advance(done - self._shown, self._left)
        self._shown = done

    @property
    def _facts(self) -> str:
        """The trials by state, and the best score of each setting."""
        states = Counter(
            record.state for ledger in self._ledgers for record in ledger.attempts.records()
        )
        parts = [f"{states[state]} {state}" for state in STATES if states[state]]
        running = sum(ledger.started for ledger in self._ledgers)
        best = [
            f"{ledger.attempts.highest:.3f}" + (f" in {name}" if len(self._ledgers) > 1 else "")
            for name, ledger in self._by_setting.items()
            if ledger.attempts.highest is not None
        ]
        said = "trials: " + ", ".join([*parts, f"{running} under way"])
        return f"{said}; best score {', '.join(best)}" if best else said

    def _worked(self) -> float:
        return sum(ledger.seconds for ledger in self._ledgers)


def _search(
    parts: Sequence[Part], context: Context, trainable: type[tune.Trainable]
) -> dict[str, float]:
    by_setting = {part.setting.name: part.ledger for part in parts}
    ledgers = list(by_setting.values())
    if all(ledger.finished for ledger in ledgers):
        return {}
    watch(parts, context.config)
    started = time.perf_counter()
    total = sum(len(ledger.points) for ledger in ledgers)
    with context.reporter.track(search_step(parts), total) as advance:
        progress = SearchProgress(by_setting, advance, context.reporter.tell)
        progress.show()
        run_search(
            [_study(part, context, progress) for part in parts],
            pool=context.pool,
            scratch=context.cluster.storage / SCRATCH,
            limits=_limits(parts, context),
            transfer=context.config.transfer,
            trainable=trainable,
        )
    seconds = time.perf_counter() - started
    worked = sum(ledger.seconds for ledger in ledgers)
    return {
        part.setting.name: seconds * part.ledger.seconds / worked if worked else 0.0
        for part in parts
    }


def _study(part: Part, context: Context, progress: SearchProgress) -> Study:
    setting, attempts = part.setting, part.ledger.attempts
    table = TrialsTable(setting, context)

    def on_end() -> None:
        table.update(attempts.records)
        latest = attempts.latest
        seconds = latest.seconds * context.resources.devices_per_trial
        trial_ended(context.config.name, setting.name, latest.state, seconds, attempts.highest)
        progress.show()

    return Study(setting.name, part.ledger, part.task, part.board, on_end, part.source)


def _limits(parts: Sequence[Part], context: Context) -> Limits:
    """The budgets, less the share that confirmation needs."""
    config = context.config
    share = min(search_share(config, part.setting) for part in parts)
    budget, hours = config.budget, config.device_hours
    return Limits(
        None if budget is None else time.monotonic() + share * budget,
        None if hours is None else share * hours * 3600,
        context.resources.devices_per_trial,
    )


def _ledger(
    setting: Setting, source: str | None, context: Context, run_id: str, task: TrialTask
) -> Ledger:
    config = context.config
    plan = Plan(
        trials=config.trials,
        virtual_workers=config.virtual_workers
        or max(FEWEST_VIRTUAL_WORKERS, VIRTUAL_PER_WORKER * context.resources.concurrency),
        seed=context.seed(setting.name, "search"),
        sampler=config.sampler,
        scheduler=config.scheduler,
        pareto=config.pareto,
        awaits_transfer=source is not None,
        durations=predicted_durations(task),
        objective=objective_label(config.objective),
    )
    silence_optuna()
    url, name = study_place(setting.name, config)
    ledger = Ledger(url, name, setting.space, plan, setting.rungs, run=run_id)
    if abandoned := ledger.reconcile():
        context.reporter.say(f"{setting.name}: {abandoned} interrupted trials start again")
    return ledger


def _task(
    setting: Setting, classifier: BaseClassifier, context: Context, precision: Precision
) -> TrialTask:
    config, resources = context.config, context.resources
    return TrialTask(
        classifier=classifier,
        train_images=setting.shots.train_images,
        train_labels=setting.shots.train_labels,
        tuning_images=setting.shots.tuning_images,
        tuning_labels=setting.shots.tuning_labels,
        objective=Objective.parse(config.objective, setting.radii),
        tuning_votes=config.tuning_votes,
        n0=config.n0,
        n=config.n,
        alpha=config.alpha,
        shared_seed=context.seed(setting.name, "tuning"),
        rungs=setting.rungs,
        samples=SharedSamples(),
        initial=setting.initial,
        precision=precision,
        device=resources.device,
        threads=resources.cpus_per_trial,
        gpu_share=resources.gpus_per_trial,
        timeout=config.trial_timeout,
        asked_to_pause=PauseRequests(),
    )
