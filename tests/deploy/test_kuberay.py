import shlex
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import ray
import yaml
from jsonschema import Draft202012Validator

from tests.support.commands import CLUSTER_DOC, RAY_JOB, ROOT, fenced
from tuning.cluster.resources import GPU_TYPE

RAY_CLUSTER = ROOT / "deploy" / "kuberay" / "raycluster.yaml"
HISTORY = ROOT / "deploy" / "kuberay" / "history-server.yaml"
SCHEMA = yaml.safe_load((Path(__file__).parent / "kuberay.schema.yaml").read_text())
KUBERNETES = "1.33"
Manifest = dict[str, Any]


def load(path: Path) -> Manifest:
    loaded: Manifest = yaml.safe_load(path.read_text())
    return loaded


def snippets() -> list[Manifest]:
    """What docs/cluster.md says to add to a manifest."""
    return [yaml.safe_load(block) for _, block in fenced(CLUSTER_DOC.read_text())]


def cluster() -> Manifest:
    spec: Manifest = load(RAY_CLUSTER)["spec"]
    return spec


def templates() -> list[Manifest]:
    return [group["template"] for group in (cluster()["headGroupSpec"], *workers())]


def workers() -> list[Manifest]:
    groups: list[Manifest] = cluster()["workerGroupSpecs"]
    return groups


def containers() -> list[Manifest]:
    return [container for pod in templates() for container in pod["spec"]["containers"]]


@pytest.mark.parametrize("path", [RAY_CLUSTER, RAY_JOB], ids=lambda path: path.name)
def test_kuberay_knows_every_field(path: Path) -> None:
    Draft202012Validator.check_schema(SCHEMA)
    Draft202012Validator(SCHEMA).validate(load(path))


def test_kuberay_knows_what_a_manifest_says_about_the_kind_of_gpus() -> None:
    changes, _ = snippets()
    manifest = load(RAY_CLUSTER)
    (group,) = changes["workerGroupSpecs"]
    manifest["spec"]["autoscalerOptions"] = changes["autoscalerOptions"]
    manifest["spec"]["workerGroupSpecs"][0] |= group
    Draft202012Validator(SCHEMA).validate(manifest)
    assert set(group["labels"]) == {GPU_TYPE}


def test_kuberay_knows_what_a_manifest_says_about_history() -> None:
    _, changes = snippets()
    for path, at in ((RAY_CLUSTER, "spec"), (RAY_JOB, "spec.rayClusterSpec")):
        manifest = cluster = load(path)
        for field in at.split("."):
            cluster = cluster[field]
        cluster |= changes
        Draft202012Validator(SCHEMA).validate(manifest)
    # The collector is a container as any other, whose name KubeRay chooses.
    pod = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "x"}}
    collector = {"name": "collector", **changes["historyServerOptions"]["collectorOptions"]}
    template = {"spec": {"containers": [collector]}}
    kubernetes_validate.validate({**pod, "template": template}, KUBERNETES, strict=True)


def test_the_history_server_reads_what_collectors_write() -> None:
    _, changes = snippets()
    manifests = list(yaml.safe_load_all(HISTORY.read_text()))
    for manifest in manifests:
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
    (deployment,) = [m for m in manifests if m["kind"] == "Deployment"]
    (server,) = deployment["spec"]["template"]["spec"]["containers"]
    collector = changes["historyServerOptions"]["collectorOptions"]
    assert server["image"].split(":")[1] == collector["image"].split(":")[1]
    variables = {variable["name"]: variable for variable in collector["env"]}
    for variable in server["env"]:
        assert variable == variables.pop(variable["name"])
    # The server has the others from the whole Secret.
    assert set(variables) == {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
    assert server["envFrom"] == [{"secretRef": {"name": "decrop-storage"}}]
    account = deployment["spec"]["template"]["spec"]["serviceAccountName"]
    assert account == manifests[0]["metadata"]["name"]


def test_kubernetes_knows_every_field_of_the_pods() -> None:
    for template in templates():
        pod = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "x"}}
        kubernetes_validate.validate({**pod, "template": template}, KUBERNETES, strict=True)


def test_kubernetes_refuses_a_misspelt_field() -> None:
    pod = {"spec": {"containers": [{"name": "x", "imagePullPolcy": "Always"}]}}
    manifest = {"apiVersion": "v1", "kind": "PodTemplate", "template": pod}
    with pytest.raises(kubernetes_validate.ValidationError, match="imagePullPolcy"):
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


def test_both_manifests_describe_the_same_cluster() -> None:
    assert load(RAY_JOB)["spec"]["rayClusterSpec"] == cluster()


def test_the_cluster_has_the_ray_that_is_pinned() -> None:
    assert cluster()["rayVersion"] == ray.__version__


def test_no_trial_runs_on_the_head() -> None:
    assert cluster()["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    for group in workers():
        assert 0 <= group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
        (worker,) = group["template"]["spec"]["containers"]
        assert worker["resources"]["limits"]["nvidia.com/gpu"] == 1


def test_the_job_asks_for_every_worker_that_may_be_started() -> None:
    words = load(RAY_JOB)["spec"]["entrypoint"].split()
    asked = int(words[words.index("--concurrency") + 1])
    assert "--autoscaling" in words
    assert asked == sum(group["maxReplicas"] for group in workers())


def test_secrets_come_from_secrets() -> None:
    assert cluster()["authOptions"] == {"mode": "token", "secretName": "decrop-token"}
    for container in containers():
        assert all("value" not in variable for variable in container.get("env", []))
        assert container["envFrom"] == [{"secretRef": {"name": "decrop-storage"}}]


def test_pods_run_without_privileges() -> None:
    for template in templates():
        assert template["spec"]["securityContext"]["runAsNonRoot"] is True
    for container in containers():
        assert container["securityContext"]["allowPrivilegeEscalation"] is False


@pytest.mark.parametrize(
    ("exists", "calls"), [(False, ["resume", "start"]), (True, ["resume"])], ids=["new", "retry"]
)
def test_the_job_goes_on_with_its_run_and_starts_it_where_there_is_none(
    tmp_path: Path, exists: bool, calls: list[str]
) -> None:
    (tmp_path / "python").write_text(
        f"#!/bin/sh\nexec >>{tmp_path}/calls\n"
        f'case "$*" in *--resume) echo resume; exit {0 if exists else 2};; esac\n'
        "echo start\n"
    )
    (tmp_path / "python").chmod(0o755)
    # KubeRay's shell splits the line; `ray job submit` joins it again for the head's shell.
    line = shlex.join(shlex.split(load(RAY_JOB)["spec"]["entrypoint"]))
    path = f"{tmp_path}:/usr/bin:/bin"
    subprocess.run(["/bin/sh", "-c", line], env={"PATH": path}, check=True)
    assert (tmp_path / "calls").read_text().split() == calls
