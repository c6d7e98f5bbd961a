"""What cannot work on the cluster ends in one line and leaves nothing behind."""

import re
import signal

import pytest

from results.files import LEDGER
from tests.cluster.conftest import SMALL
from tests.support.hosts import BUCKET, TwoHosts, wait_for
from tests.support.runs import ended


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--cpus-per-trial=2"], "--cpus-per-trial: 2 asked for, but a host of .* has 1 cores"),
        (["--gpus-per-trial=0.5"], "--gpus-per-trial: 0.5 asked for, but a host of .* has 0 GPUs"),
        ([], "--storage: host SECOND does not see .*; pass a folder or bucket that all hosts"),
        (["--storage=NOBODYS"], "--storage: s3://nobodys.* does not exist; create the bucket"),
    ],
)
def test_runs_that_cannot_work_are_refused(hosts: TwoHosts, flags: list[str], message: str) -> None:
    nobodys = hosts.storage.replace(f"s3://{BUCKET}", "s3://nobodys")
    given = [flag.replace("NOBODYS", nobodys) for flag in flags]
    process = hosts.launch("--name=refused", *given)
    _, err = ended(process, code=2)
    assert re.search(message.replace("SECOND", hosts.second.address), err.splitlines()[-1])
    assert not (hosts.folder / "refused").exists()


def test_another_version_of_ray_is_refused(hosts: TwoHosts) -> None:
    before = hosts.on_first("-c", VERSION, hosts.address, "1.0.0").strip()
    try:
        process = hosts.launch("--name=refused")
        _, err = ended(process, code=2)
    finally:
        hosts.on_first("-c", VERSION, hosts.address, before)
    assert "cannot be joined: Version mismatch" in err.splitlines()[-1]


# Writes another version of Ray into the cluster's record of itself, and prints what was there.
VERSION = """
import json, sys
from ray._raylet import GcsClient
gcs = GcsClient(address=sys.argv[1])
record = json.loads(gcs.internal_kv_get(b"CLUSTER_METADATA", b"cluster"))
print(record["ray_version"])
record["ray_version"] = sys.argv[2]
gcs.internal_kv_put(b"CLUSTER_METADATA", json.dumps(record).encode(), True, b"cluster")
"""


def test_two_launchers_on_two_hosts_do_not_work_on_one_run(hosts: TwoHosts) -> None:
    run = ["--name=claimed", f"--storage={hosts.storage}"]
    first = hosts.launch(*run, *SMALL)
    try:
        wait_for((hosts.folder / "claimed" / LEDGER).exists, first)
        elsewhere = hosts.folder.parent / "elsewhere"
        second = hosts.launch(*run, "--resume", host=hosts.second, folder=elsewhere)
        _, err = ended(second, code=2)
        assert "--name: another launcher is working on" in err.splitlines()[-1]
        assert first.poll() is None
    finally:
        first.send_signal(signal.SIGINT)
        ended(first, code=130)
