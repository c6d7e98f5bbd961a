import os
import stat
from pathlib import Path
from typing import Any

import pytest

from tuning.cluster import local_ray
from tuning.cluster.connection import job_of, private_token, token_place
from tuning.cluster.resources import (
    Host,
    Resources,
    fit_resources,
    local_resources,
    requested_resources,
)
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


def test_where_the_token_is_is_said_if_there_is_one(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert token_place() == ""
    private_token()
    assert token_place() == str(home / ".ray" / "auth_token")
    elsewhere = home / "token"
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(elsewhere))
    assert token_place() == ""
    elsewhere.write_text("0" * 64)
    assert token_place() == str(elsewhere)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)
    assert token_place() == "RAY_AUTH_TOKEN"


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
        ({"gpus_per_trial": 0.4}, 8, 2, Resources(1, 0.4, 4)),
        ({"gpus_per_trial": 2}, 8, 5, Resources(1, 2.0, 2)),
        ({"cpus_per_trial": 4, "concurrency": 9}, 8, 0, Resources(4, 0.0, 2, limit=9)),
        ({"concurrency": 1}, 8, 2, Resources(1, 1.0, 1, limit=1)),
    ],
)
def test_as_many_workers_as_fit(
    flags: dict[str, float], cpus: int, gpus: int, expected: Resources
) -> None:
    config = make_config({"name": "x", **flags})
    assert fit_resources(config, [Host(cpus, gpus)], "it") == expected


def test_a_worker_lies_on_one_host() -> None:
    whole = make_config({"name": "x", "cpus_per_trial": 3})
    hosts = [Host(2, 0), Host(4, 0), Host(3, 0), Host(7, 0)]
    assert fit_resources(whole, hosts, "it").concurrency == 4
    with pytest.raises(ConfigError, match="--cpus-per-trial: 3 asked for, but it has 2 cores"):
        fit_resources(whole, [Host(2, 0)] * 9, "it")


def test_hosts_without_gpus_run_no_trial_that_needs_one() -> None:
    hosts = [Host(64, 0), Host(8, 4), Host(2, 4)]
    assert fit_resources(make_config({"name": "x"}), hosts, "it").concurrency == 6
    shared = make_config({"name": "x", "gpus_per_trial": 0.5, "cpus_per_trial": 4})
    assert fit_resources(shared, hosts, "it").concurrency == 2
    with pytest.raises(ConfigError, match="no machine of it has both 9 cores and 1 GPUs"):
        fit_resources(make_config({"name": "x", "cpus_per_trial": 9}), hosts, "it")


def test_only_gpus_of_the_kind_that_was_named_are_used() -> None:
    hosts = [Host(8, 4, "A10G"), Host(8, 2, "H100"), Host(8, 3, "A10G"), Host(64, 0)]
    flags = {"name": "x", "cluster": "10.0.0.1:6379"}
    named = fit_resources(make_config({**flags, "gpu_type": "A10G"}), hosts, "it", shared=True)
    assert named == Resources(1, 1.0, 7, shared=True, gpu_type="A10G")
    assert named.selector == {"ray.io/accelerator-type": "A10G"}
    assert [named.workers_on(host) for host in hosts] == [4, 0, 3, 0]
    any_kind = fit_resources(make_config(flags), hosts, "it", shared=True)
    assert (any_kind.concurrency, any_kind.selector) == (9, {})
    other = make_config({**flags, "gpu_type": "L4"})
    with pytest.raises(ConfigError, match="--gpu-type: L4 asked for, but it has A10G or H100"):
        fit_resources(other, hosts, "it")
    with pytest.raises(ConfigError, match="--gpu-type: L4 asked for, but it has no GPUs"):
        fit_resources(other, [Host(8, 0)], "it")


def test_gpus_that_are_not_there_are_refused_rather_than_waited_for() -> None:
    with pytest.raises(ConfigError, match="--gpus-per-trial: 2 asked for, but it has 1 GPUs"):
        fit_resources(make_config({"name": "x", "gpus_per_trial": 2}), [Host(8, 1)], "it")


def test_of_a_cluster_that_adds_hosts_all_that_the_user_wants_is_asked() -> None:
    flags = {"name": "x", "cluster": "10.0.0.1:6379", "autoscaling": True, "concurrency": 9}
    assert requested_resources(make_config(flags)) == Resources(1, 0.0, 9, shared=True, limit=9)
    with_gpus = requested_resources(make_config({**flags, "gpus_per_trial": 0.5}))
    assert (with_gpus.device, with_gpus.gpus_per_trial) == ("cuda", 0.5)
    named = requested_resources(make_config({**flags, "gpu_type": "A10G"}))
    assert (named.gpus_per_trial, named.gpu_type) == (1.0, "A10G")


@pytest.mark.parametrize("missing", ["cluster", "concurrency"])
def test_autoscaling_needs_a_cluster_and_a_number_of_workers(missing: str) -> None:
    flags = {"name": "x", "cluster": "10.0.0.1:6379", "autoscaling": True, "concurrency": 9}
    del flags[missing]
    with pytest.raises(ConfigError, match="--autoscaling: is for a cluster that adds hosts"):
        make_config(flags)


def test_the_dashboard_is_told_the_name_of_the_run_and_what_it_searches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}
    monkeypatch.setattr("ray.init", lambda **options: asked.update(options))
    config = make_config({"name": "first", "out": tmp_path, "shots": "5,10", "trials": 7})
    local_ray._start(Resources(1, 0.0, 2), job_of(config))
    told = asked["job_config"].metadata
    # The key of the column in the list of jobs.
    assert told["job_name"] == "first"
    assert told["run folder"] == str(tmp_path / "first")
    assert (told["data set"], told["shots"], told["trials"]) == ("digits", "5, 10", "7")
    assert all(isinstance(value, str) for value in told.values())
