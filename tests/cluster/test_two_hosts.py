"""A run on two hosts that share no disk."""

import json

import pyarrow.parquet as pq

from tests.support.counts import recorded
from tests.support.hosts import TwoHosts
from tests.support.runs import HANGING, SETTING, Finished, tables


def test_both_hosts_run_trials_and_count_votes(hosts: TwoHosts, undisturbed: Finished) -> None:
    both = {hosts.first.address, hosts.second.address}
    (trials,) = tables(undisturbed.folder, ["trials"])
    assert {row["node"] for row in trials} == both
    votes = recorded(undisturbed.folder / SETTING / "votes.db")
    assert {counts.node for counts in votes.values()} == both


def test_the_bucket_holds_the_run_and_no_checkpoint_more(
    hosts: TwoHosts, undisturbed: Finished
) -> None:
    here = {
        str(path.relative_to(undisturbed.folder)): path.read_bytes()
        for path in undisturbed.folder.rglob("*")
        if path.is_file() and path.name not in (".lock", ".writer", "ray.log")
    }
    there = hosts.stored("undisturbed")
    assert not any(name.startswith("tune/") for name in there)
    for name, content in here.items():
        assert name.endswith(".db") or there[name] == content, name


def test_another_host_goes_on_from_the_bucket(hosts: TwoHosts, undisturbed: Finished) -> None:
    again = [f"--storage={hosts.storage}", "--name=undisturbed", "--resume", "--json"]
    empty = hosts.folder.parent / "elsewhere"
    process = hosts.launch(*again, host=hosts.second, folder=empty)
    out, err = process.communicate(timeout=HANGING)
    assert process.returncode == 0, err + (empty / "undisturbed" / "ray.log").read_text()
    assert "search: " not in err
    rows = json.loads(out.splitlines()[-1])["summary"]
    expected = pq.read_table(undisturbed.folder / "summary.parquet").to_pylist()
    assert rows == expected
