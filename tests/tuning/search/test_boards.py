"""What is declared of a search to those who watch it."""

from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna_dashboard import get_note
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata

from results.metrics import certified_metrics
from tests.support.ledgers import RUNGS, drive, finish, open_ledger, result
from tuning.config import RunConfig
from tuning.monitoring.tensorboard import StudyBoard
from tuning.search.boards import best_scores, study_place, watch
from tuning.search.search import Part
from tuning.search.searcher import Study
from tuning.setting.setting import make_settings
from tuning.study.database import sqlite_url

NOBODY: Any = None


def parts(folder: Path, spaces: tuple[str, ...]) -> list[Part]:
    made = []
    for name, space in zip("ab", spaces, strict=False):
        config = RunConfig(name="x", out=folder, space=space)
        (setting,) = make_settings(config)
        ledger = open_ledger(folder, name=name, space=setting.space)
        board = StudyBoard(folder / "tensorboard" / name)
        made.append(Part(setting, NOBODY, ledger, NOBODY, board))
    return made


def declared(folder: Path, name: str) -> Any:
    found = EventAccumulator(str(folder / "tensorboard" / name / "about")).Reload()
    content = found.SummaryMetadata(metadata.EXPERIMENT_TAG).plugin_data.content
    return metadata.parse_experiment_plugin_data(content)


def test_settings_side_by_side_declare_the_same_columns(tmp_path: Path) -> None:
    both = parts(tmp_path, ("digits", "mnist"))
    watch(both, RunConfig(name="x", out=tmp_path))
    first, second = (declared(tmp_path, name) for name in ("a", "b"))
    assert first == second
    columns = {info.name for info in first.hparam_infos}
    varied = {name for part in both for name in part.setting.space.parameters}
    assert columns == {"Origin", "State", "Trial", "sigma", *varied}
    values = {info.name: list(info.domain_discrete) for info in first.hparam_infos}
    # TensorBoard hides rows with a word that is not declared.
    assert values["eight_bits"] == ["truncated", "rounded", "none"]
    assert values["paired_augmentation"] == [False, True]
    assert not {"search", "published sigma", "label consistency"} - set(values["Origin"])
    assert not values["stages"]
    assert not values["batch_size"]
    metrics = [info.name.tag for info in first.metric_infos]
    assert metrics[2:] == certified_metrics({at for part in both for at in part.setting.radii})
    assert "certified/accuracy at 0.5" in metrics


def test_a_study_has_a_note_from_the_beginning(tmp_path: Path) -> None:
    watch(parts(tmp_path, ("digits",)), RunConfig(name="x", out=tmp_path))
    study = optuna.load_study(study_name="a", storage=sqlite_url(tmp_path / "study.db"))
    assert "tensorboard --logdir" in get_note(study)


def test_the_best_scores_of_a_resumed_study_are_those_at_every_rung(tmp_path: Path) -> None:
    drive(open_ledger(tmp_path, trials=20), workers=2)
    resumed = open_ledger(tmp_path, trials=20)
    best = best_scores(resumed)
    records = resumed.attempts.records()
    assert best[RUNGS[-1]] == resumed.attempts.highest
    # In these studies a trial gains a tenth after its first rung.
    assert best[RUNGS[0]] == pytest.approx(best[RUNGS[-1]] - 0.1)
    assert any(record.state == "pruned" for record in records)


def test_a_study_in_a_shared_database_is_named_after_its_run(tmp_path: Path) -> None:
    own = RunConfig(name="x", out=tmp_path)
    assert study_place("a", own) == (sqlite_url(tmp_path / "x" / "study.db"), "a")
    shared = own.model_copy(update={"ledger": "postgresql://host/name"})
    assert study_place("a", shared) == ("postgresql://host/name", "x/a")


class Remembers:
    """Remembers the rows of a board."""

    def __init__(self) -> None:
        self.rows: list[tuple[Any, ...]] = []

    def end(self, *row: Any) -> None:
        self.rows.append(row)


def test_every_trial_that_has_its_result_is_shown_once(tmp_path: Path) -> None:
    ledger, board = open_ledger(tmp_path, trials=2), Remembers()
    study = Study("x", ledger, NOBODY, board, lambda: None)  # type: ignore[arg-type]
    first, second, third = (ledger.next_proposal() for _ in range(3))
    assert first is not None
    assert second is not None
    assert third is not None
    finish(ledger, first)
    study.show_ended()
    ledger.tell(second.number, result(None, error="it diverged"))
    ledger.interrupt(third.number, "its host is gone")
    study.show_ended()
    study.show_ended()
    assert [row[:4] for row in board.rows] == [
        ("000 published", "complete", "published", 0),
        ("001 published sigma", "failed", "published_sigma", 1),
    ]
    values = board.rows[0][4]
    assert set(values) == set(ledger.points.space.parameters)
    # The point of an interrupted trial is tried again, under the same name.
    again = ledger.next_proposal()
    assert again is not None
    assert again.number > third.number
    assert again.label == third.label
    # A study that resumes does not show again what it showed before.
    resumed = Study("x", open_ledger(tmp_path, trials=2), NOBODY, board, lambda: None)  # type: ignore[arg-type]
    resumed.show_ended()
    assert len(board.rows) == 2
