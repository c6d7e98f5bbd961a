"""What every stage of a run needs, besides the setting that it works on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from trainables.smoothing.noise import derive_seed
from tuning.cluster.connection import Cluster
from tuning.cluster.pool import TaskPool
from tuning.cluster.resources import Resources
from tuning.config import RunConfig, config_hash
from tuning.monitoring.progress import Reporter
from tuning.monitoring.utilisation import Utilisation


@dataclass(frozen=True)
class Context:
    """The configuration of a run, the Ray on which it computes, and its progress reporter.

    `run_id` distinguishes the run from all others.
    """

    config: RunConfig
    cluster: Cluster
    reporter: Reporter
    run_id: str = ""

    @property
    def resources(self) -> Resources:
        """What the run uses of the cluster."""
        return self.cluster.resources

    @cached_property
    def pool(self) -> TaskPool:
        """Its workers, which all stages share."""
        return TaskPool(self.resources, Utilisation(self.reporter.tell))

    @property
    def provenance(self) -> dict[str, str]:
        """The metadata of every table that the run writes: which run, and how it is configured."""
        return {"run_id": self.run_id, "config_hash": config_hash(self.config)}

    def seed(self, setting: str, *purpose: str | int | float) -> int:
        """The seed of everything random that serves one purpose in one setting."""
        return derive_seed(self.config.seed, setting, *purpose)
