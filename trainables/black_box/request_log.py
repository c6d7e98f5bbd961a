"""A line of JSON for each request that a server answers, without what was sent in it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from trainables.black_box.exchange import one_line

LOGGER = logging.getLogger("decrop.requests")


@contextmanager
def logging_requests() -> Iterator[None]:
    """Write the lines to standard error in the block."""
    handler, level = logging.StreamHandler(), LOGGER.level
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.INFO)
    try:
        yield
    finally:
        LOGGER.setLevel(level)
        LOGGER.removeHandler(handler)


def log_request(
    method: str, target: str, status: int, *, error: str | None = None, **numbers: float
) -> None:
    """Log one; of its `target`, what comes before the query. `error` is a fault of the server."""
    facts = {"method": method, "path": target.partition("?")[0], "error": error}
    # They may hold anything, such as the token in the wrong place.
    shown = {name: one_line(fact) for name, fact in facts.items() if fact is not None}
    LOGGER.info(_line({"status": status, **shown, **numbers}))


def log_failure(client: str, failure: str) -> None:
    """Log how a connection failed."""
    LOGGER.error(_line({"client": client, "error": one_line(failure)}))


def _line(facts: dict[str, object]) -> str:
    return json.dumps({"time": datetime.now(UTC).isoformat(timespec="milliseconds"), **facts})
