"""The stages of a run in their order."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tuning.config import make_config
from tuning.run.folder import RunFolder
from tuning.run.stages import search_and_certify


def said(objective: str, folder: Path) -> str:
    """What a run without settings tells its user."""
    lines: list[str] = []
    config = make_config({"name": "x", "objective": objective})
    context: Any = SimpleNamespace(config=config, reporter=SimpleNamespace(say=lines.append))
    manifest: Any = None
    assert list(search_and_certify([], RunFolder(folder), context, manifest)) == []
    return "\n".join(lines)


def test_maximising_the_acr_is_warned_of(tmp_path: Path) -> None:
    assert "warning: --objective acr" in said("acr", tmp_path)


@pytest.mark.parametrize("objective", ["certified-accuracy", "certified-accuracy@0.5", "pareto"])
def test_no_other_objective_is_warned_of(tmp_path: Path, objective: str) -> None:
    assert "warning" not in said(objective, tmp_path)
