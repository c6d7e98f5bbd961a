"""Where trials run."""

from __future__ import annotations

from ray import tune

from tuning.cluster.resources import Resources


def placement(resources: Resources) -> tune.PlacementGroupFactory:
    """What Tune asks Ray for, for each trial."""
    return tune.PlacementGroupFactory(
        [{"CPU": resources.cpus_per_trial, "GPU": resources.gpus_per_trial}],
        bundle_label_selector=[resources.selector],
    )
