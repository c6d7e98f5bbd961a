import sqlite3
from pathlib import Path

import optuna
import pytest
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.exc import OperationalError

from tuning.study.database import RESULT, DurableStudy, StudyError, sqlite_url


def study_in(folder: Path, name: str = "x") -> DurableStudy:
    return DurableStudy(sqlite_url(folder / "study.db"), name, [StudyDirection.MAXIMIZE])


def asked(suggest: dict[str, tuple[float, float]]) -> FrozenTrial:
    study = optuna.create_study()
    trial = study.ask()
    for name, bounds in suggest.items():
        trial.suggest_float(name, *bounds)
    return study.trials[0]


def reads(folder: Path, parameters: int) -> int:
    """How often the database is read to record one trial."""
    study = study_in(folder, f"{parameters}")
    seen: list[str] = []

    def see(connection: object, cursor: object, statement: str, *rest: object) -> None:
        seen.append(statement)

    event.listen(Engine, "before_cursor_execute", see)
    study.start(asked({f"x{i}": (0, 1) for i in range(parameters)}))
    event.remove(Engine, "before_cursor_execute", see)
    assert any(statement.startswith("INSERT INTO trial_params") for statement in seen)
    return sum(statement.startswith("SELECT") for statement in seen)


def test_recording_a_trial_takes_no_reads_for_each_parameter(tmp_path: Path) -> None:
    assert reads(tmp_path, 20) == reads(tmp_path, 1)


def test_optuna_reads_back_what_was_recorded(tmp_path: Path) -> None:
    asked = optuna.create_study()
    trial = asked.ask()
    trial.suggest_float("log", 0.1, 10, log=True)
    trial.suggest_int("whole", 1, 9)
    trial.suggest_categorical("kind", ("a", True, 3))
    trial.set_user_attr("root", 7)
    study = study_in(tmp_path)
    for state, values in (
        (TrialState.COMPLETE, [0.9]),
        (TrialState.PRUNED, None),
        (TrialState.FAIL, None),
        (TrialState.RUNNING, None),
    ):
        number = study.start(asked.trials[0]).number
        study.report(number, 5, 0.3, {"seconds": 1.5})
        study.report(number, 10, 0.4, {"seconds": 2.5})
        if state != TrialState.RUNNING:
            study.tell(number, state, values, {"seconds": 3.5})
    kept = optuna.load_study(study_name="x", storage=sqlite_url(tmp_path / "study.db")).trials
    assert [t.state for t in kept] == [t.state for t in study.trials]
    assert [t.values for t in kept] == [[0.9], [0.4], None, None]
    assert [t.user_attrs[RESULT]["seconds"] for t in kept] == [3.5, 3.5, 3.5, 2.5]
    for found, mine, seen in zip(kept, study.trials, study.view.trials, strict=True):
        for other in (mine, seen):
            assert found.params == other.params == trial.params
            assert found.distributions == other.distributions
            assert found.user_attrs == other.user_attrs
            assert found.values == other.values
            assert found.intermediate_values == other.intermediate_values == {5: 0.3, 10: 0.4}
            assert found.datetime_start == other.datetime_start


def test_of_an_end_that_fails_nothing_is_recorded(tmp_path: Path) -> None:
    study = study_in(tmp_path)
    study.start(asked({"x": (0, 1)}))
    study.report(0, 5, 0.3, {"seconds": 1.5})

    def fail(connection: object, cursor: object, statement: str, *rest: object) -> None:
        # The last of its statements.
        if statement.startswith("UPDATE trials "):
            raise OperationalError(statement, None, sqlite3.OperationalError("the disk is full"))

    event.listen(Engine, "before_cursor_execute", fail)
    try:
        with pytest.raises(StudyError, match=r"study\.db: .*the disk is full$"):
            study.tell(0, TrialState.COMPLETE, [0.9], {"seconds": 2.5})
    finally:
        event.remove(Engine, "before_cursor_execute", fail)
    for trials in (study.trials, study_in(tmp_path).trials):
        assert trials[0].state == TrialState.RUNNING
        assert trials[0].user_attrs[RESULT] == {"seconds": 1.5}
        assert trials[0].values is None


def test_an_attempt_takes_nothing_of_an_earlier_result(tmp_path: Path) -> None:
    study = study_in(tmp_path)
    first = study.start(asked({"x": (0, 1)}))
    study.report(first.number, 5, 0.3, {"seconds": 1.5})
    study.tell(first.number, TrialState.FAIL, None, {"error": "abandoned"})
    second = study.start(first)
    assert second.params == first.params
    assert RESULT not in second.user_attrs
    assert second.state == TrialState.RUNNING
    assert not second.intermediate_values
    study.report(second.number, 5, 0.4, {})
    assert first.intermediate_values == {5: 0.3}


def test_a_study_goes_on_where_it_was(tmp_path: Path) -> None:
    study = study_in(tmp_path)
    study.start(asked({"x": (0, 1)}))
    again = study_in(tmp_path)
    again.report(0, 5, 0.3, {})
    assert again.start(asked({"x": (0, 1)})).number == 1
    assert study_in(tmp_path).trials[0].intermediate_values == {5: 0.3}


@pytest.mark.parametrize("value", ["a", [1, 2], {"b": None}])
def test_attributes_are_kept(tmp_path: Path, value: object) -> None:
    study_in(tmp_path).set_attribute("space", value)
    assert study_in(tmp_path).attributes == {"space": value}


def test_a_file_that_is_not_a_database_is_named_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "study.db").write_bytes(b"something else" * 100)
    with pytest.raises(StudyError, match=r"study\.db: file is not a database$") as caught:
        study_in(tmp_path)
    assert "\n" not in str(caught.value)
