import os
import stat
from pathlib import Path

import pytest

from tuning.cluster import local_resources, private_token
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
