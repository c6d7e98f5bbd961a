"""Runs on two hosts that share no disk."""

import pytest

from tests.cluster.hosts import TwoHosts
from tests.tuning.runs import Finished, tables

pytestmark = pytest.mark.timeout(500)


def test_both_hosts_run_trials(hosts: TwoHosts, undisturbed: Finished) -> None:
    (trials,) = tables(undisturbed.folder, ["trials"])
    nodes = {row["node"] for row in trials}
    assert nodes == {hosts.first.address, hosts.second.address}
