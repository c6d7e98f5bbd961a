"""An Optuna study that works in memory and writes every event through to a database.

So code that reads all trials takes milliseconds, wherever the database is.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from search_spaces import SearchSpace
from tuning.errors import ConfigError
from tuning.study.note import set_note
from tuning.study.optuna_internals import EventStorage
from tuning.study.zeros import as_meant, as_proposed

# A server that does not answer at all is given up after this many seconds.
CONNECT_SECONDS = 8
# The attribute of a trial that holds its result.
RESULT = "result"
# The attribute of a study whose database has parameters as meant (see `zeros`).
MEANT = "parameters_as_meant"


class StudyError(Exception):
    """The database of a study failed; the message is one line that says where and why."""


class DurableStudy:
    """The study `name` in the database `url`; created there if it is new.

    When a method returns, its changes are in the database. One process at a time may use it. The
    parameters named in `or_zero` may be proposed as stand-ins for zero. Trials here have them as
    proposed; the database has what they mean, except in a study that an earlier version began.

    Raises:
        ConfigError: when a PostgreSQL database cannot be opened.
        StudyError: by each method that writes, when the database fails.
    """

    def __init__(
        self,
        url: str,
        name: str,
        directions: Sequence[StudyDirection],
        or_zero: Collection[str] = (),
    ) -> None:
        self._url, self._or_zero = url, or_zero
        with self._writing():
            self._database = open_database(url)
            kept = optuna.create_study(
                storage=self._database, study_name=name, directions=directions, load_if_exists=True
            )
            self.name, self._study_id = name, self._database.get_study_id_from_name(name)
            self._directions = directions
            self._attributes: dict[str, Any] = dict(kept.user_attrs)
            self._trials = [as_proposed(trial) for trial in kept.get_trials(deepcopy=False)]

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
        """The attributes of the study itself."""
        return self._attributes

    def set_attribute(self, name: str, value: Any) -> None:
        """Record an attribute of the study."""
        with self._writing():
            self._database.set_study_user_attr(self._study_id, name, value)
        self._attributes[name] = value

    def start(self, proposed: FrozenTrial) -> FrozenTrial:
        """Start a trial with the parameters and attributes of `proposed`."""
        trial = FrozenTrial(
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
            self._database.start(self._study_id, trial, self._shown(trial))
        self._trials.append(trial)
        return trial

    def report(self, number: int, step: int, value: float, result: Mapping[str, Any]) -> None:
        """Record an intermediate value of a running trial, and its result so far."""
        trial, attributes = self._trials[number], {RESULT: dict(result)}
        with self._writing():
            self._database.report(trial, step, value, attributes)
        trial.user_attrs.update(attributes)
        trial.intermediate_values[step] = value

    def tell(
        self,
        number: int,
        state: TrialState,
        values: Sequence[float] | None,
        result: Mapping[str, Any],
    ) -> FrozenTrial:
        """Close a running trial; `values` are given if it is complete.

        A pruned trial gets the last of its intermediate values, as in Optuna.
        """
        trial, attributes = self._trials[number], {RESULT: dict(result)}
        if state == TrialState.PRUNED and trial.last_step is not None:
            values = [trial.intermediate_values[trial.last_step]]
        with self._writing():
            self._database.tell(trial, state, values, attributes)
        trial.user_attrs.update(attributes)
        trial.state, trial.values = state, values
        trial.datetime_complete = datetime.now()
        return trial

    def name_objectives(self, names: Sequence[str]) -> None:
        """Name the values of a trial, for tools that show the study."""
        with self._writing(), warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            study = optuna.load_study(study_name=self.name, storage=self._database)
            if study.metric_names != list(names):
                study.set_metric_names(list(names))

    def note(self, text: str) -> None:
        """Give the study a note in Markdown, unless a user has changed the one it has."""
        with self._writing():
            set_note(self._database, self.name, text)

    def _shown(self, trial: FrozenTrial) -> FrozenTrial:
        return as_meant(trial, self._or_zero) if MEANT in self._attributes else trial

    def _writing(self) -> AbstractContextManager[None]:
        return _writing(self._url)


def write_note(url: str, name: str, text: str) -> None:
    """Give a study that nobody has open a note; see `DurableStudy.note`.

    Raises:
        ConfigError: when a PostgreSQL database cannot be opened.
        StudyError: when the database fails.
    """
    with _writing(url):
        set_note(open_database(url), name, text)


@contextmanager
def _writing(url: str) -> Iterator[None]:
    """Report the database's own message instead of Optuna's guess."""
    try:
        yield
    except (SQLAlchemyError, StorageInternalError) as error:
        raise StudyError(f"the study in {url}: {_reason(error)}") from error


def begin_or_check(study: DurableStudy, run: str, space: SearchSpace, virtual_workers: int) -> None:
    """Record the run and search space in a new study, or compare them with the record.

    The number of `virtual_workers` is not compared: a study keeps its first.

    Raises:
        ConfigError: when the study belongs to a different run or a different version, or its search
            space was different.
    """
    if "cohort" in study.attributes:
        raise ConfigError(
            f"--resume: the study {study.name} was begun by an earlier version, which proposed "
            "trials in cohorts; finish it with that version, or start a new run"
        )
    # These come last: if the process is killed before that, the next one starts from here.
    if "virtual_workers" not in study.attributes:
        if not study.trials:
            study.set_attribute(MEANT, True)
        study.set_attribute("run", run)
        study.set_attribute("space", space.model_dump(mode="json"))
        study.set_attribute("virtual_workers", virtual_workers)
    if study.attributes.get("run", run) != run:
        raise ConfigError(
            f"--ledger: the study {study.name} there belongs to a different run; pass a different "
            "--name or --ledger"
        )
    if difference := space.difference(study.attributes.get("space", {})):
        raise ConfigError(
            f"--space: the run started with a different search space: {difference}; restore it, or "
            "start a new run"
        )


def open_database(url: str) -> EventStorage:
    """Optuna's storage in a database; its tables are created if they are not there.

    Raises:
        ConfigError: when `url` is for PostgreSQL, and it does not lead to a usable database.
    """
    if not url.startswith("postgresql"):
        return EventStorage(url)
    # A trial may last longer than a server or a firewall keeps an idle connection.
    options = {"pool_pre_ping": True, "connect_args": {"connect_timeout": CONNECT_SECONDS}}
    try:
        return EventStorage(url, options)
    except Exception as error:  # URL, driver, server and tables each have their own types
        raise ConfigError(
            f"--ledger: {url} cannot be used: {_reason(error)}; check the address and the user, "
            "and set the password in PGPASSWORD or ~/.pgpass"
        ) from error


def silence_optuna() -> None:
    """Keep Optuna from printing a line about each study that is created."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def sqlite_url(path: Path) -> str:
    """Optuna's storage URL for an SQLite file."""
    return f"sqlite:///{path}"


def _reason(error: BaseException) -> str:
    """What the database said, in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    return next(iter(str(error).splitlines()), type(error).__name__)
