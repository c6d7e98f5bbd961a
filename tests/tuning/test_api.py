"""The commands as functions."""

import asyncio
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tuning.api import certify, search
from tuning.errors import ConfigError


@pytest.fixture(autouse=True)
def _no_other_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests of this process may share a Ray."""
    if "ray" in sys.modules:
        monkeypatch.setattr(sys.modules["ray"], "is_initialized", lambda: False)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"shots": 0}, "--shots: "),
        ({"trails": 3}, "--trails: unknown; did you mean trials"),
        ({"dataset": "folder"}, "--data-dir"),
        ({"cluster": "http://host:8265"}, "--cluster: a job needs the command line"),
    ],
)
def test_bad_flags_are_refused_by_name_and_nothing_is_written(
    flags: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        search(out=tmp_path / "runs", name="x", **flags)
    assert not (tmp_path / "runs").exists()


def test_certifying_nothing_is_refused_as_on_the_command_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is neither a finished run nor an export"):
        certify(tmp_path / "nothing")
    with pytest.raises(ConfigError, match="--n: "):
        certify(tmp_path, n=0)


def test_a_process_with_a_ray_of_its_own_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(is_initialized=lambda: True))
    with pytest.raises(ConfigError, match=r"call ray.shutdown\(\) first"):
        search()


def test_the_handlers_of_signals_are_put_back(tmp_path: Path) -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    with pytest.raises(ConfigError):
        certify(tmp_path / "nothing")
    assert [signal.getsignal(number) for number in numbers] == before


def test_the_event_loop_of_a_notebook_is_put_aside_and_back(tmp_path: Path) -> None:
    async def cell() -> None:
        loop = asyncio.get_running_loop()
        with pytest.raises(ConfigError):
            certify(tmp_path / "nothing")
        assert asyncio.get_running_loop() is loop

    asyncio.run(cell())
