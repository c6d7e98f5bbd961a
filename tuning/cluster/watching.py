"""Noticing that Ray has crashed, before its library ends this process without a word."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import ray

from trainables.errors import UserError
from tuning.cluster.connection import Cluster
from tuning.cluster.ending import ENDING
from tuning.cluster.processes import found, is_running

RAYLET = "raylet/raylet"
WATCH_SECONDS = 1.0
# How long Ray's head may be silent, here and on a cluster: a network may fail for half a minute.
# After a minute, Ray ends the driver.
SILENT_SECONDS, SILENT_SECONDS_AFAR = 3.0, 45.0
# How long the main thread may take to end: Ray ends the driver ten seconds after its raylet.
END_SECONDS = 7.0


@contextmanager
def watched(cluster: Cluster, give_up: Callable[[], UserError]) -> Iterator[None]:
    """Interrupt the block if the cluster is gone: `ENDING.lost` then says why.

    If that does not end the process, it ends after `give_up`, which reports the error.
    """
    vitals, ended = _Vitals(cluster), threading.Event()

    def watch() -> None:
        while not ended.wait(WATCH_SECONDS):
            if failure := vitals.failure():
                ENDING.lose(failure)
                time.sleep(END_SECONDS)
                os._exit(give_up().exit_code)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        if not ENDING.lost:
            ended.set()
            thread.join()
            # An error of Ray may have ended the block sooner.
            ENDING.lost = vitals.failure()


class _Vitals:
    """Whether Ray's processes live: its raylet on this machine, and its head anywhere."""

    def __init__(self, cluster: Cluster) -> None:
        context = ray.get_runtime_context()
        self._raylets = found(RAYLET, context.get_node_id())
        self._head = context.gcs_address
        self._patience = SILENT_SECONDS_AFAR if cluster.logs is None else SILENT_SECONDS
        self._logs = f"; its logs are in {cluster.logs}" if cluster.logs else ""
        self._heard = time.monotonic()

    def failure(self) -> str:
        """What is wrong; empty if all is well, or may become so."""
        if self._raylets and not any(map(is_running, self._raylets)):
            return f"the raylet of this machine, which starts Ray's workers, has died{self._logs}"
        if _answers(self._head):
            self._heard = time.monotonic()
        if time.monotonic() - self._heard > self._patience:
            return f"the head of Ray at {self._head} does not answer{self._logs}"
        return ""


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=2).close()
    except OSError:
        return False
    return True
