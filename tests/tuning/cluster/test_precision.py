"""A measurement on a worker, whatever happens to the worker."""

import os
import time
from pathlib import Path

import pytest
from ray.exceptions import RayTaskError

from tuning.cluster.pool import TaskPool
from tuning.cluster.precision import TRIES, measured
from tuning.cluster.resources import Resources

pytestmark = pytest.mark.usefixtures("local_ray")
POOL = TaskPool(Resources(1, 0.0, 2))


def die(folder: Path, lives: int, resources: Resources) -> int:
    """End the process of the worker, `lives` times."""
    (folder / str(time.time_ns())).touch()
    tries = len(list(folder.iterdir()))
    if tries <= lives:
        os._exit(1)
    return tries + resources.cpus_per_trial


def test_a_worker_that_dies_is_replaced(tmp_path: Path) -> None:
    assert POOL.run(measured(die, tmp_path, 1, pool=POOL)) == 3


def test_after_some_deaths_nothing_is_measured(tmp_path: Path) -> None:
    assert POOL.run(measured(die, tmp_path, 100, pool=POOL)) is None
    assert len(list(tmp_path.iterdir())) == TRIES


def test_an_error_of_the_measurement_is_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(RayTaskError, match="NotADirectoryError"):
        POOL.run(measured(die, Path(__file__), 0, pool=POOL))
