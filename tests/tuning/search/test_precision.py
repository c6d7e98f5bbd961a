import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from search_spaces import load_space
from trainables.acceleration.voting import Precision
from trainables.models.architectures import DigitsCNN
from trainables.models.classifiers import BaseClassifier
from tuning.cluster.connection import Cluster
from tuning.cluster.context import Context
from tuning.cluster.resources import Resources
from tuning.cluster.storage import local_storage
from tuning.config import make_config
from tuning.monitoring.progress import Reporter
from tuning.search import precision as module
from tuning.search.precision import decide_training_precision, largest_training
from tuning.setting.setting import Setting, make_settings


@pytest.fixture
def context(tmp_path: Path) -> Context:
    config = make_config({"name": "x", "out": tmp_path, "certify_images": 5, "shots": "3"})
    cluster = Cluster("local", None, Resources(1, 0.0, 2), local_storage(tmp_path))
    return Context(config, cluster, Reporter())


@pytest.fixture
def setting(context: Context) -> Setting:
    (made,) = make_settings(context.config)
    return made


def decide(setting: Setting, context: Context, decided: Precision | None, **flags: Any) -> str:
    changed = replace(context, config=context.config.model_copy(update=flags))
    deciding = decide_training_precision(setting, BaseClassifier(DigitsCNN()), changed, decided)
    return changed.pool.run(deciding)


def test_what_was_given_or_decided_before_is_not_measured(
    setting: Setting, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tuning.cluster.precision.measured", None)
    assert decide(setting, context, None, precision="bfloat16") == "bfloat16"
    assert decide(setting, context, "bfloat16", precision="float32") == "float32"
    assert decide(setting, context, "bfloat16") == "bfloat16"


@pytest.mark.usefixtures("local_ray")
@pytest.mark.parametrize("shared", [False, True])
def test_otherwise_the_largest_training_is_measured_by_a_worker_of_a_cluster_or_here(
    shared: bool, setting: Setting, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = os.getpid()

    def measured(*inputs: Any) -> str:
        sizes = inputs[1].depth, inputs[1].width, len(inputs[2])
        return " ".join(str(n) for n in (*sizes, os.getpid() == here))

    monkeypatch.setattr(module, "_measure", measured)
    resources = Resources(1, 0.0, 2, shared=shared)
    context = replace(context, cluster=replace(context.cluster, resources=resources))
    images = min(40, len(setting.shots.train_labels))

    assert decide(setting, context, None) == f"5 16 {images} {not shared}"


def test_the_largest_training_has_the_largest_of_all_sizes() -> None:
    space = load_space("mnist")
    largest = largest_training(space)
    assert (largest.depth, largest.width, largest.batch_size) == (17, 64, 200)
    small = largest_training(load_space("mnist", {"width": 32, "batch_size": 25}))
    assert (small.depth, small.width, small.batch_size) == (17, 32, 25)
