import os
import stat
from pathlib import Path

import pytest

from tuning.cluster import Resources, fit_resources, local_resources, private_token
from tuning.config import make_config
from tuning.errors import ConfigError


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    return tmp_path


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_token_is_readable_by_its_owner_alone(home: Path) -> None:
    before = os.umask(0)
    try:
        private_token()
    finally:
        os.umask(before)
    token = home / ".ray" / "auth_token"
    assert mode(token) == 0o600
    assert len(token.read_text()) == 64


def test_token_of_an_earlier_ray_is_kept_and_tightened(home: Path) -> None:
    token = home / ".ray" / "auth_token"
    token.parent.mkdir()
    token.write_text("made by ray")
    token.chmod(0o644)
    private_token()
    assert token.read_text() == "made by ray"
    assert mode(token) == 0o600


def test_token_from_the_environment_leaves_no_file(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "a" * 64)
    private_token()
    assert list(home.iterdir()) == []


def test_workers_fill_the_machine_unless_told_otherwise() -> None:
    cores = len(os.sched_getaffinity(0))
    assert local_resources(make_config({"name": "x"})).concurrency == cores
    whole = make_config({"name": "x", "cpus_per_trial": cores})
    assert local_resources(whole).concurrency == 1
    assert local_resources(make_config({"name": "x", "concurrency": 1})).concurrency == 1
    with pytest.raises(ConfigError, match="cores"):
        local_resources(make_config({"name": "x", "cpus_per_trial": cores + 1}))


@pytest.mark.parametrize(
    ("flags", "cpus", "gpus", "expected"),
    [
        ({}, 8, 0, Resources(1, 0.0, 8)),
        ({}, 8, 2, Resources(1, 1.0, 2)),
        ({"gpus_per_trial": 0.25}, 8, 1, Resources(1, 0.25, 4)),
        ({"gpus_per_trial": 0.0}, 8, 2, Resources(1, 0.0, 8)),
        ({"cpus_per_trial": 4, "concurrency": 9}, 8, 0, Resources(4, 0.0, 2)),
        ({"concurrency": 1}, 8, 2, Resources(1, 1.0, 1)),
    ],
)
def test_as_many_workers_as_fit(
    flags: dict[str, float], cpus: int, gpus: int, expected: Resources
) -> None:
    config = make_config({"name": "x", **flags})
    assert fit_resources(config, cpus, gpus, "it has") == expected


def test_gpus_that_are_not_there_are_refused_rather_than_waited_for() -> None:
    with pytest.raises(ConfigError, match="--gpus-per-trial: 2 asked for, but it has 1 GPUs"):
        fit_resources(make_config({"name": "x", "gpus_per_trial": 2}), 8, 1, "it has")
