from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.trainables.test_trainable import make_task
from tuning.cluster.resources import Resources
from tuning.confirmation.training import Trainer


@pytest.mark.parametrize(
    "change", [{"precision": "bfloat16"}, {"shared_seed": 6}, {"initial": b"weights"}]
)
def test_a_denoiser_of_other_shared_inputs_is_not_taken_for_this_one(
    change: dict[str, Any], tmp_path: Path
) -> None:
    task = make_task()
    one, same, other = (
        Trainer("digits", t, tmp_path, Resources(1, 0.0, 1))
        for t in (task, replace(task, timeout=9.0), replace(task, **change))
    )
    assert one._source == same._source != other._source
