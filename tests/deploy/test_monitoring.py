"""Grafana asks for metrics that exist, and finds Prometheus, which finds Ray."""

import json
import re
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml
from ray._private.ray_constants import PROMETHEUS_SERVICE_DISCOVERY_FILE
from ray.util.metrics import Metric

from tuning.monitoring import metrics

MONITORING = Path(__file__).parents[2] / "deploy" / "monitoring"
BOARD = MONITORING / "decrop.json"
PROVISIONING = "provisioning"
# Of Ray's own exporters, on every host.
RAYS = {"ray_node_gpus_utilization", "ray_node_cpu_utilization", "ray_node_mem_used"}


@pytest.fixture(scope="module")
def ours() -> dict[str, set[str]]:
    """Labels of each metric of this project, by the name that Prometheus sees."""
    factories = [getattr(metrics, name) for name in dir(metrics) if hasattr(
        getattr(metrics, name), "cache_clear")]  # fmt: skip
    made: list[Metric] = [factory() for factory in factories]
    return {f"ray_{m.info['name']}": set(m.info["tag_keys"]) for m in made}


def expressions() -> list[str]:
    panels = json.loads(BOARD.read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel["targets"]]


def test_every_metric_is_shown(ours: dict[str, set[str]]) -> None:
    shown = {name for text in expressions() for name in re.findall(r"ray_\w+", text)}
    assert set(ours) <= shown <= set(ours) | RAYS


@pytest.mark.parametrize("text", expressions())
def test_labels_are_those_of_the_metric(ours: dict[str, set[str]], text: str) -> None:
    (name,) = re.findall(r"ray_\w+", text)
    wanted = {label.strip() for group in re.findall(r"by \(([^)]*)\)", text) for label in
              group.split(",")} | set(re.findall(r'(\w+)=~?"', text))  # fmt: skip
    assert wanted <= ours.get(name, {"instance"})


def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((MONITORING / "compose.yaml").read_text())["services"]
    return found


def inside(service: dict[str, Any]) -> dict[str, str]:
    """What of this host a service sees, by the path that it has there."""
    mounts = (mount.split(":") for mount in service["volumes"])
    return {where: source for source, where, *_ in mounts}


@pytest.mark.parametrize("name", services())
def test_what_a_service_sees_of_this_folder_is_there(name: str) -> None:
    ours = [path for path in inside(services()[name]).values() if path.startswith(".")]
    assert ours
    assert all((MONITORING / path).exists() for path in ours)


def test_nothing_can_be_reached_from_other_hosts() -> None:
    prometheus, grafana = services()["prometheus"], services()["grafana"]
    assert "--web.listen-address=127.0.0.1:9090" in prometheus["command"]
    assert grafana["environment"]["GF_SERVER_HTTP_ADDR"] == "127.0.0.1"
    assert "ports" not in prometheus | grafana


def test_prometheus_reads_where_ray_says_what_to_ask() -> None:
    (job,) = yaml.safe_load((MONITORING / "prometheus.yml").read_text())["scrape_configs"]
    ((path,),) = (source["files"] for source in job["file_sd_configs"])
    assert path == f"/tmp/ray/{PROMETHEUS_SERVICE_DISCOVERY_FILE}"
    assert inside(services()["prometheus"])["/tmp/ray"] == "/tmp/ray"


def test_grafana_is_given_prometheus_and_all_dashboards() -> None:
    (source,) = provisioned("datasources")["datasources"]
    assert source["url"] == "http://127.0.0.1:9090"
    # Ray's dashboards name it so, unless RAY_PROMETHEUS_NAME says otherwise.
    assert source["name"] == source["uid"] == "Prometheus"
    seen = inside(services()["grafana"])
    assert seen["/etc/grafana/provisioning"] == f"./{PROVISIONING}"
    for provider in provisioned("dashboards")["providers"]:
        path = PurePosixPath(provider["options"]["path"])
        assert any(PurePosixPath(where).is_relative_to(path) or path.is_relative_to(where)
                   for where in seen if where.startswith(("/dashboards", "/tmp/ray")))  # fmt: skip


def provisioned(what: str) -> dict[str, Any]:
    (path,) = (MONITORING / PROVISIONING / what).iterdir()
    found: dict[str, Any] = yaml.safe_load(path.read_text())
    return found
