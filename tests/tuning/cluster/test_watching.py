"""Whether Ray lives, seen from outside; its processes are stand-ins."""

import socket
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from tuning.cluster import watching
from tuning.cluster.processes import found
from tuning.cluster.watching import SILENT_SECONDS, SILENT_SECONDS_AFAR, _Vitals

LOGS = Path("/tmp/ray/session/logs")


class Head:
    """A port that answers, until it is closed."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"


@pytest.fixture
def head(monkeypatch: pytest.MonkeyPatch) -> Head:
    head = Head()
    context = SimpleNamespace(gcs_address=head.address, get_node_id=lambda: "98.76543219")
    monkeypatch.setattr(ray, "get_runtime_context", lambda: context)
    # In place of `raylet --node_id=...`.
    monkeypatch.setattr(watching, "RAYLET", "sleep")
    return head


def cluster(logs: Path | None = LOGS) -> Any:
    return SimpleNamespace(logs=logs)


def test_a_killed_raylet_is_noticed_at_once(head: Head) -> None:
    with subprocess.Popen(["sleep", "98.76543219"]) as raylet:
        # For a moment after its start, it has no command line.
        while not found("sleep", "98.76543219"):
            time.sleep(0.01)
        vitals = _Vitals(cluster())
        assert vitals.failure() == ""
        raylet.kill()
    assert vitals.failure() == (
        f"the raylet of this machine, which starts Ray's workers, has died; its logs are in {LOGS}"
    )


@pytest.mark.parametrize(
    ("logs", "patience"), [(LOGS, SILENT_SECONDS), (None, SILENT_SECONDS_AFAR)]
)
def test_a_head_that_is_silent_for_longer_than_a_network_fails_is_gone(
    head: Head, monkeypatch: pytest.MonkeyPatch, logs: Path | None, patience: float
) -> None:
    # Whole seconds add up exactly.
    now = float(round(time.monotonic()))
    monkeypatch.setattr(time, "monotonic", lambda: now)
    vitals = _Vitals(cluster(logs))
    head.listener.close()
    now += patience
    assert vitals.failure() == ""
    now += 1
    assert vitals.failure().startswith(f"the head of Ray at {head.address} does not answer")


def test_a_head_that_answers_again_was_not_gone(
    head: Head, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whole seconds add up exactly.
    now = float(round(time.monotonic()))
    monkeypatch.setattr(time, "monotonic", lambda: now)
    vitals = _Vitals(cluster())
    for _ in range(5):
        now += SILENT_SECONDS
        assert vitals.failure() == ""
