"""One study: Ray Tune runs the trials that the ledger proposes, and the ledger hears of each."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from trainables.decrop.config import DecropConfig
from trainables.trainable import DecropTrainable, TrialTask
from tuning.cluster import Resources
from tuning.ledger import Ledger
from tuning.tensorboard import StudyBoard

# How often Ray restarts a trial whose worker died before the trial counts as failed.
WORKER_RESTARTS = 2


class LedgerSearcher(Searcher):
    """Hands the ledger's proposals to Tune, until all are done or `deadline` has passed.

    Tune's own OptunaSearch would tell the study that a pruned trial is complete.
    """

    def __init__(self, ledger: Ledger, deadline: float | None) -> None:
        super().__init__(metric="objective", mode="max")
        self._ledger, self._deadline = ledger, deadline

    def suggest(self, trial_id: str) -> Any:
        """The next trial's configuration; None while the running cohort must end first."""
        late = self._deadline is not None and time.monotonic() > self._deadline
        if self._ledger.finished or (late and self._ledger.baselines_finished):
            return Searcher.FINISHED
        proposal = self._ledger.next_proposal()
        if proposal is None:
            return None
        full = DecropConfig.model_validate(proposal.hyperparameters).model_dump()
        return {"number": proposal.number, "seed": proposal.seed, "hyperparameters": full}

    def __getstate__(self) -> dict[str, Any]:
        """Nothing goes into Tune's own files: they are not read, and must hold no password."""
        return {}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Nothing: `LedgerScheduler` sees the trial itself, with its node and its error."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger is the only record."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the ledger is the only record."""


class LedgerScheduler(FIFOScheduler):
    """Tells the ledger what trials report, and stops those that it prunes."""

    def __init__(self, ledger: Ledger, board: StudyBoard, on_end: Callable[[], None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._ledger, self._board, self._on_end = ledger, board, on_end

    def __getstate__(self) -> dict[str, Any]:
        """As in `LedgerSearcher`."""
        return {}

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Stop or continue, as the ledger decides."""
        number = trial.config["number"]
        self._board.result(number, result)
        prune = self._ledger.report(number, result["epochs"], result["objective"])
        return str(TrialScheduler.STOP if prune else TrialScheduler.CONTINUE)

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        """The trial reached its last rung, was pruned, or found that it cannot go on."""
        number, hyperparameters = trial.config["number"], trial.config["hyperparameters"]
        complete = result["epochs"] == hyperparameters["epochs"]
        if complete:
            self._board.result(number, result)
        self._ledger.tell(
            number,
            objective=result["objective"],
            epochs=result["epochs"],
            complete=complete,
            seconds=result["trial_seconds"],
            node=result["node"],
            error=result["error"],
        )
        self._board.end(number, hyperparameters, result["objective"])
        self._on_end()


class FailureCallback(tune.Callback):
    """Tells the ledger of trials whose worker failed more often than it may.

    A scheduler would also hear of the failures from which Ray recovers.
    """

    def __init__(self, ledger: Ledger, on_end: Callable[[], None]) -> None:
        self._ledger, self._on_end = ledger, on_end

    def __getstate__(self) -> dict[str, Any]:
        """As in `LedgerSearcher`."""
        return {}

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Close the trial as failed, with its reason."""
        last = trial.last_result or {}
        self._ledger.tell(
            trial.config["number"],
            objective=None,
            epochs=last.get("epochs", 0),
            complete=False,
            seconds=last.get("trial_seconds", 0.0),
            node=last.get("node", ""),
            error=_reason(trial),
        )
        self._on_end()


def run_search(
    ledger: Ledger,
    task: TrialTask,
    *,
    setting: str,
    resources: Resources,
    scratch: Path,
    board: StudyBoard,
    budget: float | None,
    on_end: Callable[[], None],
) -> None:
    """Run trials until the ledger is finished, or no new one after `budget` seconds.

    `scratch` holds Tune's own files and is deleted at the end; `on_end` is called after each
    trial.
    """
    deadline = None if budget is None else time.monotonic() + budget
    tuner = tune.Tuner(
        tune.with_resources(
            tune.with_parameters(DecropTrainable, task=task),
            {"cpu": resources.cpus_per_trial, "gpu": resources.gpus_per_trial},
        ),
        tune_config=tune.TuneConfig(
            search_alg=LedgerSearcher(ledger, deadline),
            scheduler=LedgerScheduler(ledger, board, on_end),
            num_samples=-1,
            max_concurrent_trials=resources.concurrency,
            reuse_actors=True,
            trial_name_creator=lambda trial: f"{setting}-{trial.config['number']:05d}",
            trial_dirname_creator=lambda trial: f"{trial.config['number']:05d}",
        ),
        run_config=tune.RunConfig(
            name=f"{time.time_ns()}",
            storage_path=str(scratch.resolve()),
            failure_config=tune.FailureConfig(max_failures=WORKER_RESTARTS),
            checkpoint_config=tune.CheckpointConfig(num_to_keep=1, checkpoint_frequency=1),
            callbacks=[FailureCallback(ledger, on_end)],
            verbose=0,
        ),
    )
    try:
        tuner.fit()
    finally:
        board.close()
    # Proposals that were asked for but not started when the budget ran out.
    ledger.reconcile()
    shutil.rmtree(scratch, ignore_errors=True)


def _reason(trial: Trial) -> str:
    """The line that says most of the trial's last failure, from Tune's own record of it."""
    try:
        record = Path(str(trial.error_file)).read_text()
    except OSError:
        return "the worker failed, and Ray kept no record of it"
    last = re.split(r"^Failure # .*\n", record, flags=re.MULTILINE)[-1]
    lines = [line for line in re.sub(r"\x1b\[\d*m", "", last).splitlines() if line.strip()]
    # The traceback of an exception ends with its message; the death of a worker begins with it.
    return lines[-1] if lines[0].startswith("ray::") else lines[0]
