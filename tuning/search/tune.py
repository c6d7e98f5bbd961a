"""The search: Ray Tune runs the trials that the ledgers propose, and reports their results."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from trainables.trainable import DecropTrainable
from tuning.cluster.ending import ENDING
from tuning.cluster.hosts import workers
from tuning.cluster.pool import TaskPool
from tuning.cluster.storage import Storage
from tuning.search.budget import Limits
from tuning.search.checkpoints import Scratch, trial_name
from tuning.search.ending import BesideCallback, EndingCallback
from tuning.search.naming import NamingCallback, name_next
from tuning.search.paused import PausedTrials
from tuning.search.placement import placement
from tuning.search.searcher import LedgerSearcher, Study
from tuning.search.tune_internals import (
    configure_tune,
    failure_reason,
    idle_workers_kept,
    interruption,
)
from tuning.study.attempts import TrialResult

# How often Ray restarts a trial whose worker died before the trial counts as failed. A lost host
# can end a trial twice: when the network breaks, and when Ray gives the host up.
WORKER_RESTARTS = 3


class LedgerScheduler(FIFOScheduler):
    """Records in the ledgers what trials report, and stops the trials that they prune.

    A trial is paused while it is not known whether it is pruned.
    """

    def __init__(self, studies: Sequence[Study], scratch: Scratch, paused: PausedTrials) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._studies = {study.setting: study for study in studies}
        self._scratch, self._paused = scratch, paused

    def __getstate__(self) -> dict[str, Any]:
        """As in `LedgerSearcher`."""
        return {}

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Stop, continue or pause, as the ledger decides."""
        study, number = self._studies[trial.config["setting"]], trial.config["number"]
        _show(study, trial, result)
        if result.get("paused"):
            # Its host leaves, or the run ends: it has no score yet.
            self._paused.add(trial)
            return str(TrialScheduler.PAUSE)
        prune = study.ledger.report(
            number, result["epochs"], result["objective"], result["trial_seconds"]
        )
        if prune is None:
            self._paused.add(trial)
            return str(TrialScheduler.PAUSE)
        return str(TrialScheduler.STOP if prune else TrialScheduler.CONTINUE)

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """The paused trial that goes on next, if there is a worker for it.

        Tune starts new trials by itself.
        """
        if ENDING.asked:
            return None
        for trial in self._paused.pruned:
            tune_controller.stop_trial(trial)
        ready = self._paused.ready if self._paused.free_workers > 0 else []
        for trial in ready[:1]:
            self._paused.remove(trial)
            return trial
        return None

    def on_trial_remove(self, tune_controller: Any, trial: Trial) -> None:
        """Close a trial that was pruned while it was paused."""
        self._paused.remove(trial)
        self.on_trial_complete(tune_controller, trial, trial.last_result)

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        """Close a trial that reached its last rung, was pruned, or cannot continue."""
        study = self._studies[trial.config["setting"]]
        number = trial.config["number"]
        if result["error"] or result["epochs"] == trial.config["hyperparameters"].epochs:
            _show(study, trial, result)
        ended = TrialResult(
            objective=result["objective"],
            epochs=result["epochs"],
            seconds=result["trial_seconds"],
            node=result["node"],
            accuracy=result["accuracy"],
            error=result["error"],
            restarts=trial.num_failures,
            restarted=failure_reason(trial) if trial.num_failures else "",
        )
        study.ledger.tell(number, ended)
        study.show_ended()
        self._scratch.ended(study.setting, number)
        study.on_end()


class FailureCallback(tune.Callback):
    """Closes in the ledgers trials whose workers failed too often.

    A scheduler would also be called for failures from which Ray recovers.
    """

    def __init__(self, studies: Sequence[Study]) -> None:
        self._studies = {study.setting: study for study in studies}

    def __getstate__(self) -> dict[str, Any]:
        """As in `LedgerSearcher`."""
        return {}

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Close the trial as failed, with its reason."""
        study, last = self._studies[trial.config["setting"]], trial.last_result or {}
        number, reason = trial.config["number"], failure_reason(trial)
        if trial.should_recover():
            # Tune gives up a trial if a single death is reported to it twice.
            study.ledger.interrupt(number, reason)
        else:
            failed = TrialResult(
                objective=None,
                epochs=last.get("epochs", 0),
                seconds=last.get("trial_seconds", 0.0),
                node=last.get("node", ""),
                error=reason,
                restarts=trial.num_failures - 1,
            )
            study.ledger.tell(number, failed)
        study.show_ended()
        study.on_end()


def run_search(
    studies: Sequence[Study],
    *,
    pool: TaskPool,
    scratch: Storage,
    limits: Limits,
    transfer: int,
    trainable: type[tune.Trainable] = DecropTrainable,
) -> None:
    """Run trials of all studies, until their ledgers are finished or a limit is reached.

    A study that has a `source` evaluates the `transfer` best points of that one first. What has
    begun in the `pool` gets the workers that no trial needs any more.
    `scratch` holds Tune's own files. It is deleted at the end; after an interruption, trials
    continue from the checkpoints in it.
    """
    files, resources = Scratch(scratch), pool.resources
    configure_tune()
    paused = PausedTrials({s.setting: s.ledger for s in studies}, lambda: workers(resources))
    searcher = LedgerSearcher(studies, limits, transfer, files, paused)
    scheduler = LedgerScheduler(studies, files, paused)
    try:
        beside = pool.beside(lambda: paused.spare_workers, lambda: paused.busy_workers)
        with ENDING.graceful(), beside:
            while reason := _interruption(
                _tuner(studies, searcher, scheduler, files.storage, pool, trainable), paused
            ):
                paused.clear()
                for study in studies:
                    study.ledger.interrupt_all(reason)
    finally:
        # Their workers end only when nothing refers to them any more.
        paused.clear()
        for study in studies:
            study.board.close()
    # Some proposals may not have been started when a limit was reached.
    for study in studies:
        study.ledger.reconcile()
    files.remove()


def _tuner(
    studies: Sequence[Study],
    searcher: LedgerSearcher,
    scheduler: LedgerScheduler,
    scratch: Storage,
    pool: TaskPool,
    trainable: type[tune.Trainable],
) -> tune.Tuner:
    prepared = tune.with_resources(
        tune.with_parameters(
            trainable,
            tasks={s.setting: s.task for s in studies},
            filesystem=scratch.filesystem,
        ),
        placement(pool.resources),
    )
    # Which Ray shows as the class of each worker.
    prepared.__qualname__ = trainable.__qualname__
    return tune.Tuner(
        prepared,
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=scheduler,
            num_samples=-1,
            reuse_actors=True,
            trial_name_creator=_name,
            trial_dirname_creator=_name,
        ),
        run_config=tune.RunConfig(
            name=f"{time.time_ns()}",
            storage_path=scratch.folder,
            storage_filesystem=scratch.filesystem,
            failure_config=tune.FailureConfig(max_failures=WORKER_RESTARTS),
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=1),
            callbacks=[
                NamingCallback(),
                FailureCallback(studies),
                BesideCallback(pool),
                EndingCallback(pool),
            ],
            verbose=0,
        ),
    )


def _interruption(tuner: tune.Tuner, paused: PausedTrials) -> str:
    """Run trials until there are no more, or until Tune gives up; returns the reason for that."""
    try:
        with idle_workers_kept(lambda: paused.needed_workers):
            tuner.fit()
    except RuntimeError as error:
        reason = interruption(error)
        if not reason:
            raise
        return reason
    return ""


def _show(study: Study, trial: Trial, result: dict[str, Any]) -> None:
    """Show what a trial reports, in TensorBoard and in the name of its next task."""
    study.board.result(trial.config["label"], result)
    name_next(trial, result)
    # Tune keeps the last result of every trial.
    result["denoised"] = None


def _name(trial: Trial) -> str:
    return trial_name(trial.config["setting"], trial.config["number"])
