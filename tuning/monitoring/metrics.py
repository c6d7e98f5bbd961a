"""Metrics of a running launcher for Prometheus, through the exporters of Ray's hosts."""

from __future__ import annotations

from functools import cache

from ray.util.metrics import Counter, Gauge


def trial_ended(
    run: str, setting: str, state: str, device_seconds: float, best: float | None
) -> None:
    """Count a trial that is complete, pruned or failed; `best` is the highest objective so far."""
    tags = {"run": run, "setting": setting}
    _trials().inc(tags={**tags, "state": state})
    if device_seconds > 0:
        _device_seconds().inc(device_seconds, tags={**tags, "step": "search"})
    if best is not None:
        _best().set(best, tags=tags)


def votes_counted(model: str, votes: int, device_seconds: float) -> None:
    """Add `votes` that a task counted; `model` names the setting and variant."""
    tags = {"model": model}
    _votes().inc(votes, tags=tags)
    if device_seconds > 0:
        _vote_seconds().inc(device_seconds, tags=tags)


@cache
def _trials() -> Counter:
    return Counter("decrop_trials_total", "Trials that ended", ("run", "setting", "state"))


@cache
def _device_seconds() -> Counter:
    return Counter(
        "decrop_device_seconds_total", "Device-seconds of trials", ("run", "setting", "step")
    )


@cache
def _best() -> Gauge:
    return Gauge("decrop_best_objective", "Highest objective of a trial", ("run", "setting"))


@cache
def _votes() -> Counter:
    return Counter("decrop_votes_total", "Votes counted", ("model",))


@cache
def _vote_seconds() -> Counter:
    return Counter("decrop_vote_seconds_total", "Device-seconds of votes", ("model",))
