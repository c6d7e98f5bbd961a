"""What every stage of a run needs, besides the setting that it works on."""

from __future__ import annotations

from dataclasses import dataclass

from trainables.smoothing.noise import derive_seed
from tuning.cluster.connection import Cluster
from tuning.cluster.resources import Resources
from tuning.config import RunConfig
from tuning.monitoring.progress import Reporter


@dataclass(frozen=True)
class Context:
    """The configuration of a run, the Ray on which it computes, and its progress reporter."""

    config: RunConfig
    cluster: Cluster
    reporter: Reporter

    @property
    def resources(self) -> Resources:
        """What the run uses of the cluster."""
        return self.cluster.resources

    def seed(self, setting: str, *purpose: str | int | float) -> int:
        """The seed of everything random that serves one purpose in one setting."""
        return derive_seed(self.config.seed, setting, *purpose)
