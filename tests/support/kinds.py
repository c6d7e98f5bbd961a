"""Work for GPUs of one kind, on two nodes of this machine: python -m tests.support.kinds.

Prints where it ran, as JSON. A process of its own, because a process has one Ray at a time.
"""

import json

import ray
from ray.cluster_utils import Cluster
from ray.util.placement_group import placement_group_table

from tuning.cluster.hosts import present_hosts
from tuning.cluster.pool import TaskPool
from tuning.cluster.precision import measured
from tuning.cluster.resources import GPU_TYPE, Resources
from tuning.search.placement import placement

KINDS = ("A10G", "L4")


def node(resources: Resources) -> str:
    """The node of the worker that runs this."""
    found: str = ray.get_runtime_context().get_node_id()
    return found


def node_of_task(kind: str) -> str:
    """The node on which a task runs."""
    pool = TaskPool(Resources(1, 0.0, 2, gpu_type=kind))
    return str(pool.run(measured(node, pool=pool)))


def kind_of_trial(kind: str | None, kinds: dict[str, str]) -> str:
    """The kind of the node on which Tune's request for a trial is granted."""
    group = placement(Resources(1, 0.0, 2, gpu_type=kind)).to_placement_group()
    ray.get(group.ready())
    (found,) = placement_group_table(group)["bundles_to_node_id"].values()
    ray.util.remove_placement_group(group)
    return kinds[found]


def main() -> None:
    """Start two nodes without GPUs, labelled as if they had some."""
    cluster = Cluster()
    try:
        for kind in KINDS:
            cluster.add_node(num_cpus=2, labels={GPU_TYPE: kind})
        ray.init(address=cluster.address, log_to_driver=False)
        kinds = {node["NodeID"]: node["Labels"][GPU_TYPE] for node in ray.nodes()}
        found = {
            "hosts": sorted(present_hosts()),
            "tasks": {kind: kinds[node_of_task(kind)] for kind in KINDS},
            "trials": {kind: kind_of_trial(kind, kinds) for kind in KINDS},
            "any": kind_of_trial(None, kinds),
        }
        print(json.dumps(found))
    finally:
        ray.shutdown()
        cluster.shutdown()


if __name__ == "__main__":
    main()
