"""What Tune runs next: the proposals of the ledgers."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ray.tune.search import Searcher

from trainables.task import TrialTask
from tuning.cluster.ending import ENDING
from tuning.monitoring.tensorboard import StudyBoard
from tuning.search.budget import Limits
from tuning.search.checkpoints import Scratch
from tuning.search.paused import PausedTrials
from tuning.study.ledger import Ledger


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

    def show_ended(self) -> None:
        """Show in TensorBoard the trials that have ended since the last call."""
        varied = self.ledger.points.space.parameters
        for record in self.ledger.attempts.untold():
            self.board.end(
                record.label,
                record.state,
                record.origin,
                record.number,
                {name: getattr(record.hyperparameters, name) for name in varied},
            )


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
        paused: PausedTrials,
    ) -> None:
        super().__init__(metric="objective", mode="max")
        self._scratch, self._paused = scratch, paused
        self._studies = {study.setting: study for study in studies}
        self._turn = deque(self._studies)
        self._limits, self._transfer = limits, transfer

    def suggest(self, trial_id: str) -> Any:
        """The next trial's configuration; None while there is none, or no worker for it."""
        if ENDING.asked:
            return None
        ledgers = [study.ledger for study in self._studies.values()]
        late = self._limits.reached(ledgers)
        if late:
            for ledger in ledgers:
                ledger.close()
        # Tune would end idle workers, which paused trials may still need.
        if not self._paused.waiting and all(
            ledger.finished or (late and ledger.baselines_finished) for ledger in ledgers
        ):
            return Searcher.FINISHED
        if self._paused.free_workers <= len(self._paused.ready):
            return None
        for _ in ledgers:
            study = self._studies[self._turn[0]]
            self._turn.rotate(-1)
            self._pass_on(study)
            proposal = study.ledger.next_proposal()
            # Some end at once.
            study.show_ended()
            if proposal is not None:
                return {
                    "setting": study.setting,
                    "number": proposal.number,
                    "label": proposal.label,
                    "best": dict(study.board.best),
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
