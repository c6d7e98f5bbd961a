"""A run in MLflow: a run that holds the report, and nested in it one for each trial.

Where MLflow writes is its own business: MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME name it.
"""

import os
import time
from collections.abc import Mapping

# Nothing is reported to the makers of MLflow unless that is asked for.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import mlflow
from mlflow.entities import Metric, Param, RunTag
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NOTE

from results import files
from results.run import Run
from results.tracking.tracked import Tracked, identity, tracked

# By these tags a run is found again, so that nothing is there twice.
_OF, _KEY = "decrop.run_id", "decrop.key"


def to_mlflow(run: Run, note: str) -> str:
    """Write or update a run in MLflow, and return where that is.

    Raises:
        mlflow.exceptions.MlflowException: if MLflow cannot be reached or does not accept it.
    """
    client = mlflow.MlflowClient()
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "decrop")
    experiment = client.get_experiment_by_name(name)
    place = client.create_experiment(name) if experiment is None else experiment.experiment_id
    run_id = identity(run)
    known = _known(client, place, run_id)
    whole = Tracked(run_id, run.name, "", {}, {}, {})
    parent = _write(client, place, known, whole, {_OF: run_id, MLFLOW_RUN_NOTE: note})
    if (report := run.folder / files.REPORT).exists():
        client.log_artifact(parent, str(report))
    for one in tracked(run):
        tags = {_OF: run_id, MLFLOW_PARENT_RUN_ID: parent, "setting": one.setting, **one.labels}
        _write(client, place, known, one, tags)
    return f"{mlflow.get_tracking_uri()}, experiment {name}"


def _known(client: mlflow.MlflowClient, place: str, run_id: str) -> dict[str, mlflow.entities.Run]:
    """What earlier calls have written, by key."""
    known, token = {}, None
    while True:
        page = client.search_runs([place], f"tags.`{_OF}` = '{run_id}'", page_token=token)
        known.update({found.data.tags[_KEY]: found for found in page})
        if not (token := page.token):
            return known


def _write(
    client: mlflow.MlflowClient,
    place: str,
    known: Mapping[str, mlflow.entities.Run],
    one: Tracked,
    tags: Mapping[str, str],
) -> str:
    """Write what is new of a run, and return its id in MLflow."""
    found = known.get(one.key) or client.create_run(place, tags={_KEY: one.key}, run_name=one.name)
    before, now = found.data.metrics, round(1000 * time.time())
    client.log_batch(
        found.info.run_id,
        [Metric(name, v, now, 0) for name, v in one.metrics.items() if before.get(name) != v],
        [Param(name, str(value)) for name, value in one.hyperparameters.items()],
        [RunTag(name, value) for name, value in tags.items()],
    )
    client.set_terminated(found.info.run_id, _status(one))
    return str(found.info.run_id)


def _status(one: Tracked) -> str:
    return "FAILED" if one.labels.get("state") == "failed" else "FINISHED"
