"""Optuna's storage with one transaction for each event, and the private names that it needs.

Optuna's own RDBStorage records each parameter and attribute of a trial in a transaction of its own,
after several reads: in a database elsewhere, each trial would take seconds. Here the same rows are
written at once, so that every tool for Optuna reads them. This relies on

- `optuna.storages._rdb.models`, the tables as classes of SQLAlchemy, and their columns;
- `RDBStorage.engine`, the connection to the database, which is not documented;
- `FrozenTrial._trial_id`, the key of a trial in those tables.

`check_internals` checks that they are unchanged.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import optuna
from optuna.distributions import distribution_to_json
from optuna.storages import RDBStorage
from optuna.storages._rdb.models import (
    TrialIntermediateValueModel,
    TrialModel,
    TrialParamModel,
    TrialSystemAttributeModel,
    TrialUserAttributeModel,
    TrialValueModel,
)
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy import insert, update
from sqlalchemy.engine import Engine
from sqlalchemy.orm import Session

COLUMNS: dict[Any, str] = {
    TrialModel: "trial_id number study_id state datetime_start datetime_complete",
    TrialParamModel: "param_id trial_id param_name param_value distribution_json",
    TrialValueModel: "trial_value_id trial_id objective value value_type",
    TrialIntermediateValueModel: (
        "trial_intermediate_value_id trial_id step intermediate_value intermediate_value_type"
    ),
    TrialUserAttributeModel: "trial_user_attribute_id trial_id key value_json",
    TrialSystemAttributeModel: "trial_system_attribute_id trial_id key value_json",
}


def check_internals() -> None:
    """Fail in one line if Optuna no longer has what this module uses.

    Raises:
        RuntimeError: naming what is gone or has changed.
    """
    database, trial = RDBStorage("sqlite://"), create_trial(value=0.0)
    intact = {
        "RDBStorage.engine": isinstance(getattr(database, "engine", None), Engine),
        "FrozenTrial._trial_id": isinstance(getattr(trial, "_trial_id", None), int),
    }
    for model, columns in COLUMNS.items():
        intact[f"storages._rdb.models.{model.__name__}"] = set(columns.split()) == {
            column.name for column in model.__table__.columns
        }
    for name, same in intact.items():
        if not same:
            raise RuntimeError(f"optuna {optuna.__version__}: {name} is gone or has changed")


class EventStorage(RDBStorage):
    """RDBStorage that records what happens to a trial in one transaction, with few reads."""

    def start(self, study_id: int, trial: FrozenTrial, shown: FrozenTrial) -> None:
        """Record a running trial with the parameters of `shown`, and give it its key.

        The caller makes sure that its number is free and its parameters fit earlier trials.
        """
        with Session(self.engine) as session, session.begin():
            row = TrialModel(
                study_id=study_id,
                number=trial.number,
                state=trial.state,
                datetime_start=trial.datetime_start,
            )
            session.add(row)
            session.flush()
            key = int(row.trial_id)
            params = [
                {
                    "trial_id": key,
                    "param_name": name,
                    "param_value": distribution.to_internal_repr(shown.params[name]),
                    "distribution_json": distribution_to_json(distribution),
                }
                for name, distribution in shown.distributions.items()
            ]
            _insert(session, TrialParamModel, params)
            for model, attributes in (
                (TrialUserAttributeModel, shown.user_attrs),
                (TrialSystemAttributeModel, shown.system_attrs),
            ):
                rows = [
                    {"trial_id": key, "key": name, "value_json": json.dumps(content)}
                    for name, content in attributes.items()
                ]
                _insert(session, model, rows)
            trial._trial_id = key

    def report(
        self, trial: FrozenTrial, step: int, value: float, attributes: Mapping[str, Any]
    ) -> None:
        """Record an intermediate value and attributes of a trial, all or nothing."""
        trial_id = trial._trial_id
        with Session(self.engine) as session, session.begin():
            _put_attributes(session, trial_id, attributes)
            stored, kind = TrialIntermediateValueModel.intermediate_value_to_stored_repr(value)
            _put(
                session,
                TrialIntermediateValueModel,
                {"trial_id": trial_id, "step": step},
                {"intermediate_value": stored, "intermediate_value_type": kind},
            )

    def tell(
        self,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
        attributes: Mapping[str, Any],
    ) -> None:
        """Record how a trial ended, with finite `values` and attributes; all or nothing."""
        trial_id = trial._trial_id
        with Session(self.engine) as session, session.begin():
            _put_attributes(session, trial_id, attributes)
            finite = TrialValueModel.TrialValueType.FINITE
            rows = [
                {"trial_id": trial_id, "objective": i, "value": value, "value_type": finite}
                for i, value in enumerate(values or ())
            ]
            _insert(session, TrialValueModel, rows)
            row = session.get_one(TrialModel, trial_id)
            row.state, row.datetime_complete = state, datetime.now()


def _put_attributes(session: Session, trial_id: int, attributes: Mapping[str, Any]) -> None:
    for name, content in attributes.items():
        place = {"trial_id": trial_id, "key": name}
        _put(session, TrialUserAttributeModel, place, {"value_json": json.dumps(content)})


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
