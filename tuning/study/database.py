"""An Optuna study that works in memory and writes every event through to a database.

Whatever looks at all trials then takes milliseconds, wherever the database is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import distribution_to_json
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.storages._rdb.models import (
    TrialIntermediateValueModel,
    TrialModel,
    TrialParamModel,
    TrialSystemAttributeModel,
    TrialUserAttributeModel,
    TrialValueModel,
)
from optuna.storages._rdb.storage import _create_scoped_session
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import insert, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from tuning.errors import ConfigError

# A server that does not answer at all is given up after so many seconds.
CONNECT_SECONDS = 8
# In the run folder.
FILE = "study.db"
# The attribute of a trial that says what came of it.
RESULT = "result"


class DurableStudy:
    """The study `name` in the database `url`; created there if it is new.

    What a method did is in the database when it returns. One process at a time may use it.

    Raises:
        ConfigError: when a PostgreSQL database cannot be opened.
        StorageInternalError: by each method that writes, when the database fails; one line.
    """

    def __init__(self, url: str, name: str, directions: Sequence[StudyDirection]) -> None:
        self._url = url
        self._database = open_database(url)
        with self._writing():
            kept = optuna.create_study(
                storage=self._database, study_name=name, directions=directions, load_if_exists=True
            )
            self.name, self._study_id = name, kept._study_id
            self._directions = directions
            self._attributes: dict[str, Any] = dict(kept.user_attrs)
            self._trials = kept.get_trials(deepcopy=False)

    @property
    def trials(self) -> Sequence[FrozenTrial]:
        """All trials in order of number; they must not be changed."""
        return self._trials

    @property
    def view(self) -> optuna.Study:
        """A copy of the study, for reading; it costs as much as the study is long."""
        copy = optuna.create_study(study_name=self.name, directions=self._directions)
        copy.add_trials(self._trials)
        return copy

    @property
    def attributes(self) -> Mapping[str, Any]:
        """What was recorded of the study itself."""
        return self._attributes

    def set_attribute(self, name: str, value: Any) -> None:
        """Record an attribute of the study."""
        with self._writing():
            self._database.set_study_user_attr(self._study_id, name, value)
        self._attributes[name] = value

    def start(self, proposed: FrozenTrial) -> FrozenTrial:
        """Start a trial with the parameters and attributes of `proposed`."""
        started = FrozenTrial(
            number=len(self._trials),
            trial_id=-1,
            state=TrialState.RUNNING,
            value=None,
            datetime_start=datetime.now(),
            datetime_complete=None,
            params=proposed.params,
            distributions=proposed.distributions,
            user_attrs={k: v for k, v in proposed.user_attrs.items() if k != RESULT},
            system_attrs=proposed.system_attrs,
            intermediate_values={},
        )
        with self._writing():
            started._trial_id = self._database.start(self._study_id, started)
        self._trials.append(started)
        return started

    def report(self, number: int, step: int, value: float, result: Mapping[str, Any]) -> None:
        """Record an intermediate value of a running trial, and its result so far."""
        trial = self._trials[number]
        with self._writing():
            self._database.report(trial._trial_id, step, value, result)
        trial.user_attrs[RESULT] = dict(result)
        trial.intermediate_values[step] = value

    def tell(
        self,
        number: int,
        state: TrialState,
        values: Sequence[float] | None,
        result: Mapping[str, Any],
    ) -> FrozenTrial:
        """Close a running trial; `values` are given if it is complete.

        A pruned one has the last of its intermediate values, as Optuna has it.
        """
        trial = self._trials[number]
        if state == TrialState.PRUNED and trial.last_step is not None:
            values = [trial.intermediate_values[trial.last_step]]
        with self._writing():
            self._database.tell(trial._trial_id, state, values, result)
        trial.user_attrs[RESULT] = dict(result)
        trial.state, trial.values = state, values
        trial.datetime_complete = datetime.now()
        return trial

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Say what the database has against it, where Optuna only guesses."""
        try:
            yield
        except (SQLAlchemyError, StorageInternalError) as error:
            raise StorageInternalError(f"the study in {self._url}: {_reason(error)}") from error


class _Database(RDBStorage):
    """Optuna's, with one transaction and few reads for each thing that happens to a trial."""

    def start(self, study_id: int, trial: FrozenTrial) -> int:
        """Record a running trial; its id.

        That its number is free and its parameters fit those of earlier trials is known already.
        """
        with _create_scoped_session(self.scoped_session) as session:
            row = TrialModel(
                study_id=study_id,
                number=trial.number,
                state=trial.state,
                datetime_start=trial.datetime_start,
            )
            session.add(row)
            session.flush()
            own = {"trial_id": row.trial_id}
            params = [
                {
                    **own,
                    "param_name": name,
                    "param_value": distribution.to_internal_repr(trial.params[name]),
                    "distribution_json": distribution_to_json(distribution),
                }
                for name, distribution in trial.distributions.items()
            ]
            _insert(session, TrialParamModel, params)
            for model, attributes in (
                (TrialUserAttributeModel, trial.user_attrs),
                (TrialSystemAttributeModel, trial.system_attrs),
            ):
                rows = [
                    {**own, "key": key, "value_json": json.dumps(content)}
                    for key, content in attributes.items()
                ]
                _insert(session, model, rows)
            return int(row.trial_id)

    def report(self, trial_id: int, step: int, value: float, result: Mapping[str, Any]) -> None:
        """Record an intermediate value and the result so far, both or neither."""
        with _create_scoped_session(self.scoped_session) as session:
            _put_result(session, trial_id, result)
            stored, kind = TrialIntermediateValueModel.intermediate_value_to_stored_repr(value)
            _put(
                session,
                TrialIntermediateValueModel,
                {"trial_id": trial_id, "step": step},
                {"intermediate_value": stored, "intermediate_value_type": kind},
            )

    def tell(
        self,
        trial_id: int,
        state: TrialState,
        values: Sequence[float] | None,
        result: Mapping[str, Any],
    ) -> None:
        """Record how a running trial ended, with finite `values`; all of it or nothing."""
        with _create_scoped_session(self.scoped_session) as session:
            _put_result(session, trial_id, result)
            finite = TrialValueModel.TrialValueType.FINITE
            rows = [
                {"trial_id": trial_id, "objective": i, "value": value, "value_type": finite}
                for i, value in enumerate(values or ())
            ]
            _insert(session, TrialValueModel, rows)
            row = TrialModel.find_or_raise_by_id(trial_id, session)
            row.state, row.datetime_complete = state, datetime.now()


def _put_result(session: Session, trial_id: int, result: Mapping[str, Any]) -> None:
    place = {"trial_id": trial_id, "key": RESULT}
    _put(session, TrialUserAttributeModel, place, {"value_json": json.dumps(dict(result))})


def _put(
    session: Session, model: type[Any], place: Mapping[str, Any], content: Mapping[str, Any]
) -> None:
    """Change a row, or add it."""
    changed: Any = session.execute(update(model).filter_by(**place).values(**content))
    if not changed.rowcount:
        _insert(session, model, [{**place, **content}])


def _insert(session: Session, model: type[Any], rows: Sequence[Mapping[str, Any]]) -> None:
    """Add rows in one statement; as objects of the session they cost twice as much."""
    if rows:
        session.execute(insert(model), rows)


def open_database(url: str) -> _Database:
    """Optuna's storage in a database; its tables are created if they are not there.

    Raises:
        ConfigError: when `url` is PostgreSQL's, and no database with our tables is reached by it.
    """
    if not url.startswith("postgresql"):
        return _Database(url)
    # A trial may last longer than a server or a firewall keeps a silent connection.
    options = {"pool_pre_ping": True, "connect_args": {"connect_timeout": CONNECT_SECONDS}}
    try:
        return _Database(url, options)
    except Exception as error:  # URL, driver, server and tables each have their own types
        raise ConfigError(
            f"--ledger: {url} cannot be used: {_reason(error)}; check the address and the user, "
            "and set the password in PGPASSWORD or ~/.pgpass"
        ) from error


def _reason(error: BaseException) -> str:
    """What the database said, in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    return next(iter(str(error).splitlines()), type(error).__name__)


def sqlite_url(path: Path) -> str:
    """Optuna's storage URL for an SQLite file."""
    return f"sqlite:///{path}"
