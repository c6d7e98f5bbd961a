"""Signals that a test sends to its own process, and what is left of them."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from ray.experimental.internal_kv import _internal_kv_del

from tuning.cluster import pausing
from tuning.cluster.ending import ENDING


@contextmanager
def handlers_kept() -> Iterator[None]:
    """Put the handlers of this process back after the block, and forget what they were sent."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    # Of tests that run under nohup, too.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        ENDING._forget()


@contextmanager
def pausing_undone() -> Iterator[None]:
    """Let workers of this process's Ray train on after the block."""
    try:
        yield
    finally:
        _internal_kv_del(pausing._key(), namespace=pausing.NAMESPACE)
