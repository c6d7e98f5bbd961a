"""An Optuna study that works in memory and writes every event through to a database.

Samplers read all earlier trials for each proposal. From memory that takes milliseconds, wherever
the database is; from the database it would grow with the number of trials.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.exceptions import StorageInternalError
from optuna.samplers import BaseSampler
from optuna.storages import RDBStorage
from optuna.storages._rdb.models import TrialParamModel
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from tuning.errors import ConfigError

# A server that does not answer at all is given up after so many seconds.
CONNECT_SECONDS = 8
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
            self._study_id = kept._study_id
            self._attributes: dict[str, Any] = dict(kept.user_attrs)
            trials = kept.get_trials(deepcopy=False)
        self._study = optuna.create_study(study_name=name, directions=directions)
        # Of each trial in the database, in order of its number.
        self._ids: list[int] = []
        for trial in trials:
            self._ids.append(trial._trial_id)
            self._study.add_trial(trial)

    @property
    def trials(self) -> list[FrozenTrial]:
        """All trials in order of number; they must not be changed."""
        return self._study.get_trials(deepcopy=False)

    @property
    def view(self) -> optuna.Study:
        """The study in memory, for reading."""
        return self._study

    @property
    def attributes(self) -> Mapping[str, Any]:
        """What was recorded of the study itself."""
        return self._attributes

    def set_attribute(self, name: str, value: Any) -> None:
        """Record an attribute of the study."""
        with self._writing():
            self._database.set_study_user_attr(self._study_id, name, value)
        self._attributes[name] = value

    def ask(
        self,
        sampler: BaseSampler,
        point: Mapping[str, Any],
        suggest: Callable[[Trial], Mapping[str, Any]],
    ) -> FrozenTrial:
        """Start a trial with the parameters of `point`, and the sampler's for all others.

        What `suggest` returns become attributes of the trial.
        """
        self._study.sampler = sampler
        if point:
            self._study.enqueue_trial(dict(point))
        trial = self._study.ask()
        for name, value in suggest(trial).items():
            trial.set_user_attr(name, value)
        started = self.trials[trial.number]
        with self._writing():
            trial_id = self._database.create_new_trial(self._study_id, template_trial=started)
        self._ids.append(trial_id)
        return started

    def report(self, number: int, step: int, value: float, result: Mapping[str, Any]) -> None:
        """Record an intermediate value of a running trial, and its result so far."""
        self._set_result(number, result)
        with self._writing():
            self._database.set_trial_intermediate_value(self._ids[number], step, value)
        memory, trial_id = self._in_memory(number)
        memory.set_trial_intermediate_value(trial_id, step, value)

    def tell(
        self,
        number: int,
        state: TrialState,
        values: Sequence[float] | None,
        result: Mapping[str, Any],
    ) -> FrozenTrial:
        """Close a running trial; `values` are given if it is complete."""
        self._set_result(number, result)
        self._study.tell(number, values, state=state)
        told = self.trials[number]
        with self._writing():
            self._database.set_trial_state_values(self._ids[number], told.state, told.values)
        return told

    def _set_result(self, number: int, result: Mapping[str, Any]) -> None:
        # One attribute, because each is a transaction of its own.
        memory, trial_id = self._in_memory(number)
        with self._writing():
            self._database.set_trial_user_attr(self._ids[number], RESULT, dict(result))
        memory.set_trial_user_attr(trial_id, RESULT, dict(result))

    def _in_memory(self, number: int) -> tuple[optuna.storages.BaseStorage, int]:
        return self._study._storage, self.trials[number]._trial_id

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Say what the database has against it, where Optuna only guesses."""
        try:
            yield
        except (SQLAlchemyError, StorageInternalError) as error:
            raise StorageInternalError(f"the study in {self._url}: {_reason(error)}") from error


class _Database(RDBStorage):
    """Writes the parameters of a new trial without reading earlier trials for each of them."""

    def _set_trial_param_without_commit(
        self,
        session: Session,
        trial_id: int,
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,
        previous_distribution: BaseDistribution | None = None,
    ) -> None:
        # That they fit those of earlier trials, the study in memory has checked.
        session.add(
            TrialParamModel(
                trial_id=trial_id,
                param_name=param_name,
                param_value=param_value_internal,
                distribution_json=distribution_to_json(distribution),
            )
        )


def open_database(url: str) -> RDBStorage:
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
