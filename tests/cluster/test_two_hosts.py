"""A run on two hosts that share no disk."""

import pytest

from tests.cluster.hosts import TwoHosts
from tests.tuning.runs import SETTING, Finished, tables
from tuning.vote_store import VoteStore

pytestmark = pytest.mark.timeout(600)


def test_both_hosts_run_trials_and_count_votes(hosts: TwoHosts, undisturbed: Finished) -> None:
    both = {hosts.first.address, hosts.second.address}
    (trials,) = tables(undisturbed.folder, ["trials"])
    assert {row["node"] for row in trials} == both
    votes = VoteStore(undisturbed.folder / SETTING / "votes.db").all()
    assert {c.node for key, c in votes.items() if key.phase == "estimate"} == both


def test_the_bucket_holds_the_run_and_no_checkpoint_more(
    hosts: TwoHosts, undisturbed: Finished
) -> None:
    here = {
        str(path.relative_to(undisturbed.folder)): path.read_bytes()
        for path in undisturbed.folder.rglob("*")
        if path.is_file() and path.name not in (".lock", ".writer", "ray.log")
    }
    there = hosts.stored("undisturbed")
    assert {name.partition("/")[0] for name in there} == {"run"}
    for name, content in here.items():
        if not name.endswith(".db"):
            assert there[f"run/{name}"] == content, name
