"""The Grafana dashboard asks for metrics that exist, by labels that they have."""

import json
import re
from pathlib import Path

import pytest
from ray.util.metrics import Metric

from tuning.monitoring import metrics

BOARD = Path(__file__).parents[2] / "deploy" / "grafana" / "decrop.json"
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
