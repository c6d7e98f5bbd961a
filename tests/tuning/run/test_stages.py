"""The stages of a run in their order."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tuning.cluster.pool import TaskPool
from tuning.cluster.resources import Resources
from tuning.config import make_config
from tuning.errors import AllTrialsFailed
from tuning.run import stages
from tuning.run.folder import RunFolder
from tuning.run.pipeline import Rows
from tuning.run.stages import search_and_certify, side_by_side


def warned(objective: str, folder: Path) -> str:
    """What a run without settings warns its user of."""
    lines: list[str] = []
    config = make_config({"name": "x", "objective": objective})
    reporter = SimpleNamespace(say=str, warn=lines.append, expect=dict)
    pool = TaskPool(Resources(1, 0.0, 1))
    context: Any = SimpleNamespace(config=config, reporter=reporter, pool=pool)
    manifest: Any = SimpleNamespace(add_command=lambda command: None)
    assert list(search_and_certify([], {}, RunFolder(folder), context, manifest)) == []
    return "\n".join(lines)


def test_maximising_the_acr_is_warned_of(tmp_path: Path) -> None:
    assert "--objective acr also pays" in warned("acr", tmp_path)


@pytest.mark.parametrize("objective", ["certified-accuracy", "certified-accuracy@0.5", "pareto"])
def test_no_other_objective_is_warned_of(tmp_path: Path, objective: str) -> None:
    assert warned(objective, tmp_path) == ""


@pytest.mark.parametrize("access", ["white-box", "black-box"])
def test_the_time_left_in_all_is_not_predicted_for_an_endpoint(
    access: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = {"x: search": 2.0, "x: certification votes": 3.0}
    monkeypatch.setattr(stages, "expected_operations", lambda *arguments: dict(work))
    told: dict[str, float] = {}
    part: Any = SimpleNamespace(
        setting=SimpleNamespace(name="x"), access=SimpleNamespace(trained_through=None)
    )
    context: Any = SimpleNamespace(
        config=SimpleNamespace(access=access), reporter=SimpleNamespace(expect=told.update)
    )
    stages._expect([part], context)
    assert told == (work if access == "white-box" else {})


def test_a_setting_that_fails_does_not_keep_the_others_from_their_results() -> None:
    async def fail() -> Rows:
        raise AllTrialsFailed("of the first")

    async def succeed() -> Rows:
        await asyncio.sleep(0)
        return [{"setting": "second"}]

    pool, found = TaskPool(Resources(1, 0.0, 1)), list[Rows]()
    with pytest.raises(AllTrialsFailed, match="of the first"):
        found.extend(side_by_side([fail(), succeed()], pool))
    assert found == [[{"setting": "second"}]]
