from typing import Any

import pytest
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial

from tuning.study import optuna_internals
from tuning.study.optuna_internals import COLUMNS, check_internals


def test_optuna_has_what_we_rely_on() -> None:
    check_internals()


@pytest.mark.parametrize("table", COLUMNS, ids=lambda table: table.__name__)
def test_a_table_that_changed_is_named_in_one_line(
    monkeypatch: pytest.MonkeyPatch, table: Any
) -> None:
    changed = {**COLUMNS, table: COLUMNS[table] + " another"}
    monkeypatch.setattr(optuna_internals, "COLUMNS", changed)
    with pytest.raises(RuntimeError, match=rf"^optuna \S+: .*\.{table.__name__} is gone[^\n]*$"):
        check_internals()


def test_a_storage_without_its_engine_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RDBStorage, "__init__", lambda *_: None)
    with pytest.raises(RuntimeError, match=r"^optuna \S+: RDBStorage\.engine is gone"):
        check_internals()


def test_a_trial_without_its_key_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = property(lambda _: None, lambda *_: None)
    monkeypatch.setattr(FrozenTrial, "_trial_id", nothing, raising=False)
    with pytest.raises(RuntimeError, match=r"^optuna \S+: FrozenTrial\._trial_id is gone"):
        check_internals()
