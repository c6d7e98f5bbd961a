"""The command `decrop track`."""

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

from results.command_line import CommandLine, fail
from results.run import Run, load_run
from results.sentences import details, headline, sentence
from results.verdict import judge_all

# The package with the client of each tracker.
_TRACKERS = {"mlflow": "mlflow-skinny", "wandb": "wandb"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Give a run to a tracker, say where, and return 0; if that fails, say why and return 2."""
    line = CommandLine("decrop track", description=_DESCRIPTION)
    line.add_argument("run", type=Path, help="run folder, for example runs/digits")
    line.add_argument("--to", choices=_TRACKERS, required=True, help="the tracker")
    given = line.parse_args(arguments)
    try:
        place = track(given.run, given.to)
    except (ValueError, OSError) as error:
        return fail(str(error))
    # The clients raise what they like, such as what their HTTP library raises.
    except Exception as error:
        return fail(f"--to {given.to}: {type(error).__name__}: {error}")
    print(place)
    return 0


def track(folder: Path, tracker: str) -> str:
    """Give the run in `folder` to `tracker`, mlflow or wandb, and return where it wrote.

    Each trial becomes a run there, with its hyperparameters, its scores and what was certified of
    it. This can be done at any moment and again: what is there is updated.

    Raises:
        StoreError: if it is not a run, or a table is damaged.
        ValueError: without the tracker's client, or if the run has no table of trials yet.
    """
    run = load_run(folder)
    if not any(setting.trials for setting in run.settings):
        raise ValueError(f"{folder}: no trial has ended yet")
    return _client(tracker)(run, _note(run))


def _client(tracker: str) -> Callable[[Run, str], str]:
    try:
        module = import_module(f"results.tracking.to_{tracker}")
    except ModuleNotFoundError as error:
        package = _TRACKERS[tracker]
        raise ValueError(f"--to {tracker} needs its client: pip install {package}") from error
    client: Callable[[Run, str], str] = getattr(module, f"to_{tracker}")
    return client


def _note(run: Run) -> str:
    """What was proved in each setting."""
    said = [
        f"{name}: {' '.join([sentence(headline(verdict)), *details(verdict)])}"
        for name, verdict in judge_all(run).items()
    ]
    return "\n\n".join(said)


_DESCRIPTION = (
    "Give a run to MLflow or Weights & Biases: one run there for each trial, with the final "
    "certified metrics. Weights & Biases stays offline unless WANDB_MODE=online."
)
