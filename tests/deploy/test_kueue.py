from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator, ValidationError

from tests.support.commands import QUEUED_JOB, RAY_JOB, ROOT
from tuning.cluster.resources import GPU_TYPE

FOLDER = Path(__file__).parent
KUBERAY = yaml.safe_load((FOLDER / "kuberay.schema.yaml").read_text())
KUEUE = Draft202012Validator(yaml.safe_load((FOLDER / "kueue.schema.yaml").read_text()))
QUEUES = list(yaml.safe_load_all((ROOT / "deploy" / "kueue" / "queues.yaml").read_text()))
Manifest = dict[str, Any]


def job() -> Manifest:
    loaded: Manifest = yaml.safe_load(QUEUED_JOB.read_text())
    return loaded


def named(kind: str) -> list[Manifest]:
    return [manifest for manifest in QUEUES if manifest["kind"] == kind]


def quota(flavor: Manifest) -> dict[str, Any]:
    return {resource["name"]: resource["nominalQuota"] for resource in flavor["resources"]}


def test_kuberay_and_kueue_know_every_field() -> None:
    Draft202012Validator(KUBERAY).validate(job())
    for manifest in QUEUES:
        KUEUE.validate(manifest)


def test_kueue_refuses_a_misspelt_field() -> None:
    (queue,) = named("ClusterQueue")
    (group,) = queue["spec"]["resourceGroups"]
    with pytest.raises(ValidationError, match="nominalQuotas"):
        KUEUE.validate({**queue, "spec": {"resourceGroups": [{**group, "nominalQuotas": 1}]}})


def test_the_job_names_the_queue_and_waits_for_it() -> None:
    (local,), (cluster,) = named("LocalQueue"), named("ClusterQueue")
    assert job()["metadata"]["labels"] == {"kueue.x-k8s.io/queue-name": local["metadata"]["name"]}
    assert local["spec"]["clusterQueue"] == cluster["metadata"]["name"]
    spec = job()["spec"]
    assert spec["suspend"] is True
    # Kueue refuses other jobs.
    assert spec["shutdownAfterJobFinishes"] is True
    assert "enableInTreeAutoscaling" not in spec["rayClusterSpec"]


def test_the_queue_has_room_for_the_job_on_nodes_of_the_kind_that_it_names() -> None:
    (cluster,) = named("ClusterQueue")
    (group,) = cluster["spec"]["resourceGroups"]
    none, a10g = group["flavors"]
    assert [none["name"], a10g["name"]] == [flavor["metadata"]["name"] for flavor in QUEUES[:2]]
    for flavor in (none, a10g):
        assert list(quota(flavor)) == group["coveredResources"]
    assert quota(none)["nvidia.com/gpu"] == 0
    (workers,) = job()["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    assert workers["replicas"] == workers["minReplicas"] == workers["maxReplicas"]
    assert workers["replicas"] <= quota(a10g)["nvidia.com/gpu"]
    assert f"--gpu-type {workers['labels'][GPU_TYPE]} " in job()["spec"]["entrypoint"]
    assert QUEUES[1]["spec"]["nodeLabels"]["nvidia.com/gpu.product"].endswith(
        workers["labels"][GPU_TYPE]
    )


def test_otherwise_it_is_the_job_without_a_queue() -> None:
    queued, plain = job(), yaml.safe_load(RAY_JOB.read_text())
    assert queued["metadata"].pop("labels")
    assert queued["spec"].pop("suspend")
    plain_cluster = plain["spec"]["rayClusterSpec"]
    del plain_cluster["enableInTreeAutoscaling"], plain_cluster["autoscalerOptions"]
    (workers,) = queued["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    del workers["labels"]
    workers |= {"replicas": 0, "minReplicas": 0}
    scaling = "--autoscaling --concurrency 4 --gpus-per-trial 1 "
    plain["spec"]["entrypoint"] = plain["spec"]["entrypoint"].replace(scaling, "--gpu-type A10G ")
    assert queued == plain
