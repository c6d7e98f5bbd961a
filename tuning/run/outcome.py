"""What came of a run, written where people watched it: TensorBoard and optuna-dashboard."""

from __future__ import annotations

from collections.abc import Mapping

from results.files import TENSORBOARD
from results.metrics import certified_values
from results.run import Run, Setting
from results.schema import Row
from results.sentences import details, headline, sentence
from results.verdict import Verdict
from tuning.config import RunConfig
from tuning.monitoring.tensorboard import StudyBoard
from tuning.search.boards import note_of, study_place
from tuning.study.database import write_note


def write_outcome(run: Run, verdicts: Mapping[str, Verdict], config: RunConfig) -> None:
    """Add what was certified to TensorBoard, and the verdict to both.

    A run that only certifies again has neither, and gets none.

    Raises:
        StudyError: when the database of the studies fails.
    """
    for setting in run.settings:
        folder = run.folder / TENSORBOARD / setting.name
        if not folder.is_dir() or setting.name not in verdicts:
            continue
        said = [sentence(headline(verdicts[setting.name])), *details(verdicts[setting.name])]
        board = StudyBoard(folder)
        for row in setting.summary:
            _write(board, setting, row, said)
        url, name = study_place(setting.name, config)
        write_note(url, name, note_of(setting.name, config, f"**{said[0]}**", " ".join(said[1:])))


def _write(board: StudyBoard, setting: Setting, row: Row, said: list[str]) -> None:
    trial: Row = next((t for t in setting.trials if t["number"] == row["trial"]), {})
    values = {name: trial[name] for name in setting.hyperparameters if trial.get(name) is not None}
    board.certified(
        row["variant"].replace("_", " "),
        row["origin"],
        row["trial"],
        {**values, "sigma": row["sigma"]},
        certified_values(row),
        "\n\n".join([f"**{said[0]}**", *said[1:]]) if row["variant"] == "best" else "",
    )
