"""The search: Ray Tune runs the trials that the ledgers propose, and reports their results."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from trainables.task import TrialTask
from trainables.trainable import DecropTrainable
from tuning.cluster.ending import ENDING
from tuning.cluster.hosts import workers
from tuning.cluster.resources import Resources
from tuning.cluster.storage import Storage
from tuning.monitoring.tensorboard import StudyBoard
from tuning.search.budget import Limits
from tuning.search.checkpoints import Scratch, trial_name
from tuning.search.pausing import EndingCallback, PausingScheduler
from tuning.search.tune_internals import (
    configure_tune,
    failure_reason,
    idle_workers_kept,
    interruption,
)
from tuning.study.attempts import TrialResult
from tuning.study.ledger import Ledger

# How often Ray restarts a trial whose worker died before the trial counts as failed. A lost host
# can end a trial twice: when the network breaks, and when Ray gives the host up.
WORKER_RESTARTS = 3


@dataclass(frozen=True)
class Study:
    """One setting's part in a search: its ledger, what its trials share, and its TensorBoard.

    `source` is the setting whose best points this one evaluates first, if any; `on_end` is called
    after each trial.
    """

    setting: str
    ledger: Ledger
    task: TrialTask
    board: StudyBoard
    on_end: Callable[[], None]
    source: str | None = None


class LedgerSearcher(Searcher):
    """Passes the ledgers' proposals to Tune, in turn, until all are done or a limit is reached.

    Tune's own OptunaSearch would tell the study that a pruned trial is complete.
    """

    def __init__(
        self,
        studies: Sequence[Study],
        limits: Limits,
        transfer: int,
        scratch: Scratch,
        workers: Callable[[], int],
    ) -> None:
        super().__init__(metric="objective", mode="max")
        self._scratch, self._workers = scratch, workers
        self._studies = {study.setting: study for study in studies}
        self._turn = deque(self._studies)
        self._limits, self._transfer = limits, transfer

    def suggest(self, trial_id: str) -> Any:
        """The next trial's configuration; None while a cohort must end or a worker become free."""
        if ENDING.asked:
            return None
        ledgers = [study.ledger for study in self._studies.values()]
        late = self._limits.reached(ledgers)
        if all(ledger.finished or (late and ledger.baselines_finished) for ledger in ledgers):
            return Searcher.FINISHED
        if sum(ledger.started for ledger in ledgers) >= self._workers():
            return None
        for _ in ledgers:
            study = self._studies[self._turn[0]]
            self._turn.rotate(-1)
            ledger = study.ledger
            if late and ledger.baselines_finished:
                continue
            self._pass_on(study)
            proposal = ledger.next_proposal()
            if proposal is not None:
                return {
                    "setting": study.setting,
                    "number": proposal.number,
                    "seed": proposal.seed,
                    "hyperparameters": proposal.hyperparameters,
                    "checkpoints": self._scratch.checkpoints(study.setting, proposal.abandoned),
                }
        return None

    def _pass_on(self, study: Study) -> None:
        """Transfer to a study the best points of its source, once that has finished."""
        if study.source is None or not self._studies[study.source].ledger.finished:
            return
        found = self._studies[study.source].ledger
        study.ledger.transfer(found.attempts.best(self._transfer, found.plan.pareto))

    def __getstate__(self) -> dict[str, Any]:
        """Keep the object out of Tune's own files: they are not read, and could leak passwords."""
        return {}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Do nothing: `LedgerScheduler` gets the trial itself, with its node and its error."""

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: the ledger is the only record."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing: the ledger is the only record."""


class LedgerScheduler(PausingScheduler):
    """Records in the ledgers what trials report, and stops the trials that they prune."""

    def __init__(self, studies: Sequence[Study], scratch: Scratch) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._studies = {study.setting: study for study in studies}
        self._scratch = scratch

    def __getstate__(self) -> dict[str, Any]:
        """As in `LedgerSearcher`."""
        return {}

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Stop or continue, as the ledger decides."""
        study, number = self._studies[trial.config["setting"]], trial.config["number"]
        study.board.result(number, result)
        if result.get("paused"):
            return str(TrialScheduler.PAUSE)
        prune = study.ledger.report(
            number, result["epochs"], result["objective"], result["trial_seconds"]
        )
        return str(TrialScheduler.STOP if prune else TrialScheduler.CONTINUE)

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        """Close a trial that reached its last rung, was pruned, or cannot continue."""
        study = self._studies[trial.config["setting"]]
        number, hyperparameters = trial.config["number"], trial.config["hyperparameters"]
        if result["epochs"] == hyperparameters.epochs:
            study.board.result(number, result)
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
        study.board.end(
            number, hyperparameters.model_dump(), result["objective"], result["accuracy"]
        )
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
        study.on_end()


def run_search(
    studies: Sequence[Study],
    *,
    resources: Resources,
    scratch: Storage,
    limits: Limits,
    transfer: int,
    trainable: type[tune.Trainable] = DecropTrainable,
) -> None:
    """Run trials of all studies, until their ledgers are finished or a limit is reached.

    A study that has a `source` evaluates the `transfer` best points of that one first.
    `scratch` holds Tune's own files. It is deleted at the end; after an interruption, trials
    continue from the checkpoints in it.
    """
    files = Scratch(scratch)
    configure_tune()
    searcher = LedgerSearcher(studies, limits, transfer, files, lambda: workers(resources))
    try:
        with ENDING.graceful():
            while reason := _interruption(_tuner(studies, searcher, files, resources, trainable)):
                for study in studies:
                    study.ledger.interrupt_all(reason)
    finally:
        for study in studies:
            study.board.close()
    # Some proposals may not have been started when a limit was reached.
    for study in studies:
        study.ledger.reconcile()
    files.remove()


def _tuner(
    studies: Sequence[Study],
    searcher: LedgerSearcher,
    files: Scratch,
    resources: Resources,
    trainable: type[tune.Trainable],
) -> tune.Tuner:
    return tune.Tuner(
        tune.with_resources(
            tune.with_parameters(
                trainable,
                tasks={s.setting: s.task for s in studies},
                filesystem=files.storage.filesystem,
            ),
            {"cpu": resources.cpus_per_trial, "gpu": resources.gpus_per_trial},
        ),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=LedgerScheduler(studies, files),
            num_samples=-1,
            reuse_actors=True,
            trial_name_creator=_name,
            trial_dirname_creator=_name,
        ),
        run_config=tune.RunConfig(
            name=f"{time.time_ns()}",
            storage_path=files.storage.folder,
            storage_filesystem=files.storage.filesystem,
            failure_config=tune.FailureConfig(max_failures=WORKER_RESTARTS),
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=1),
            callbacks=[FailureCallback(studies), EndingCallback()],
            verbose=0,
        ),
    )


def _interruption(tuner: tune.Tuner) -> str:
    """Run trials until there are no more, or until Tune gives up; returns the reason for that."""
    try:
        with idle_workers_kept():
            tuner.fit()
    except RuntimeError as error:
        reason = interruption(error)
        if not reason:
            raise
        return reason
    return ""


def _name(trial: Trial) -> str:
    return trial_name(trial.config["setting"], trial.config["number"])
