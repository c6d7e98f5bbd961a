from pathlib import Path

import optuna
import pytest
from optuna.samplers import RandomSampler
from optuna.study import StudyDirection
from sqlalchemy import event
from sqlalchemy.engine import Engine

from tuning.ledger import sqlite_url
from tuning.study import DurableStudy


def reads(folder: Path, parameters: int) -> int:
    """How often the database is read to record one trial."""
    study = DurableStudy(
        sqlite_url(folder / "study.db"), f"{parameters}", [StudyDirection.MAXIMIZE]
    )
    seen: list[str] = []

    def see(connection: object, cursor: object, statement: str, *rest: object) -> None:
        seen.append(statement)

    event.listen(Engine, "before_cursor_execute", see)
    study.ask(
        RandomSampler(0),
        {},
        lambda trial: (
            {str(i): trial.suggest_float(f"x{i}", 0, 1) for i in range(parameters)} and {}
        ),
    )
    event.remove(Engine, "before_cursor_execute", see)
    assert any(statement.startswith("INSERT INTO trial_params") for statement in seen)
    return sum(statement.startswith("SELECT") for statement in seen)


def test_recording_a_trial_takes_no_reads_for_each_parameter(tmp_path: Path) -> None:
    assert reads(tmp_path, 20) == reads(tmp_path, 1)


def test_a_parameter_whose_kind_changed_is_refused(tmp_path: Path) -> None:
    study = DurableStudy(sqlite_url(tmp_path / "study.db"), "x", [StudyDirection.MAXIMIZE])
    study.ask(RandomSampler(0), {}, lambda trial: {"x": trial.suggest_float("x", 0, 1)})
    with pytest.raises(ValueError, match="Cannot set different distribution kind"):
        study.ask(RandomSampler(0), {}, lambda trial: {"x": trial.suggest_int("x", 0, 1)})


def test_parameters_are_read_back_by_optuna_as_they_were_asked(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path / "study.db")
    study = DurableStudy(url, "x", [StudyDirection.MAXIMIZE])
    asked = study.ask(
        RandomSampler(0),
        {},
        lambda trial: {
            "log": trial.suggest_float("log", 0.1, 10, log=True),
            "whole": trial.suggest_int("whole", 1, 9),
            "kind": trial.suggest_categorical("kind", ("a", True, 3)),
        },
    )
    (kept,) = optuna.load_study(study_name="x", storage=url).trials
    assert kept.params == asked.params
    assert kept.distributions == asked.distributions
