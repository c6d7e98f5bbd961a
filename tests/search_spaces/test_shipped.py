"""The shipped spaces, compared with a record of them in `shipped.json`.

The record has all of `decrop`, and of every other space what it has instead (null: what it lacks).
Whoever changes a space on purpose changes its record too (`python -m tests.support.shipped`). A run
that was started with the old space cannot be resumed with the new one. The fingerprint, which run
manifests store, also changes with the order of hyperparameters, as samplers' proposals do.
"""

import json
from typing import Any

import pytest

from search_spaces import load_space, shipped_spaces
from tests.support import shipped
from tests.support.shipped import entries

RECORD: dict[str, dict[str, Any]] = json.loads(shipped.RECORD.read_text())


def test_the_shipped_spaces_are_those_on_record() -> None:
    assert shipped_spaces() == sorted(RECORD)


@pytest.mark.parametrize("name", RECORD)
def test_a_shipped_space_is_the_one_on_record(name: str) -> None:
    space = load_space(name)
    merged = RECORD["decrop"] | RECORD[name]
    assert entries(space) == {key: value for key, value in merged.items() if value is not None}
    assert space.name == name
