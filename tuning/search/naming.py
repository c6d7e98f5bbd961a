"""What Ray's dashboard and `ray list` call the workers of a search and what they do."""

from __future__ import annotations

import math
import weakref
from typing import Any

from ray import tune
from ray.actor import ActorHandle
from ray.tune.experiment import Trial

from tuning.search.tune_internals import actor_of

# The method of a worker that brings its trial to the next rung.
TRAIN = "train"


class NamingCallback(tune.Callback):
    """Names the first task of each trial; a worker is reused for many trials."""

    def on_trial_start(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Name what comes next, which Tune submits after this call."""
        name_next(trial, trial.last_result or {})


def name_next(trial: Trial, result: dict[str, Any]) -> None:
    """Give the trial's next task a name with what it has come to.

    For example `digits-10shot: 011 start, from epoch 26, score 0.412`.
    """
    actor = actor_of(trial)
    if actor is not None:
        setattr(actor, TRAIN, _Named(actor, _task_name(trial.config, result)))


def _task_name(config: dict[str, Any], result: dict[str, Any]) -> str:
    name = f"{config['setting']}: {config['label']}, from epoch {result.get('epochs', 0) + 1}"
    score = result.get("objective", math.nan)
    return f"{name}, score {score:.3f}" if math.isfinite(score) else name


class _Named:
    """The method `train` of an actor, with a name for its next call."""

    def __init__(self, actor: ActorHandle[Any], name: str) -> None:
        # The actor ends when nothing refers to its handle, so this must not make a cycle.
        self._actor, self._name = weakref.ref(actor), name

    def remote(self) -> Any:
        """Submit the call."""
        actor = self._actor()
        assert actor is not None
        return ActorHandle.__getattr__(actor, TRAIN).options(name=self._name).remote()
