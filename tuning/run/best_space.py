"""best.yaml: the winning configuration as a search space, with the command that runs it again."""

from __future__ import annotations

from pathlib import Path

from results import files
from results.schema import SEARCHED
from results.store import write_text
from search_spaces import SearchSpace
from search_spaces.space import Parameter, Value
from search_spaces.yaml_values import dump_yaml
from trainables.decrop.config import DecropConfig
from tuning.config import RunConfig, setting_name
from tuning.config.command import command_of
from tuning.setting.setting import Setting
from tuning.study.attempts import TrialRecord


def write_best_space(setting: Setting, winner: TrialRecord, config: RunConfig) -> None:
    """Write best.yaml to the folder of a setting.

    Raises:
        OSError: if it cannot be written.
    """
    path = setting.folder / files.BEST_SPACE
    command = command_of(_again(setting, winner, config, path))
    content = dump_yaml(winning_space(setting.space, winner).model_dump(mode="json"))
    said = f"# Trial {winner.number} of {setting.name}. Run it again with:\n# {command}\n"
    write_text(path, said + content)


def winning_space(space: SearchSpace, winner: TrialRecord) -> SearchSpace:
    """A space that has the published point, its baselines, and the winner as a start point.

    A winner that is one of these points anyway is no start point.
    """
    values: dict[str, Value] = winner.hyperparameters.model_dump(mode="json")
    known = DecropConfig().model_dump(mode="json") | space.published
    # The epochs of a trial follow from the space's, and from its smallest number of steps.
    given = {"epochs": 0} | space.fixed
    different = {
        name: value for name, value in values.items() if name not in given and value != known[name]
    }
    named = {name: known[name] for name in different} | space.published
    # Nothing but the two points is chosen from; the baselines need the sigmas of their sweep.
    choices = {name: {named[name], value} for name, value in different.items()}
    if "sigma" not in space.fixed:
        choices["sigma"] = {*space.sweep, known["sigma"], values["sigma"]}
        named |= {"sigma": known["sigma"]}
    return SearchSpace(
        name=f"{space.name}-best",
        published=named,
        fixed=space.fixed,
        parameters={
            name: Parameter(choices=tuple(sorted(found, key=str)))
            for name, found in choices.items()
        },
        start=(different,) if winner.origin in SEARCHED else (),
        rungs=space.rungs,
        sweep=space.sweep,
        radii=space.radii,
        steps=space.steps,
    )


def _again(setting: Setting, winner: TrialRecord, config: RunConfig, path: Path) -> RunConfig:
    """The configuration that trains the winner again, beside the baselines only."""
    shots = next(s for s in config.shots if setting_name(setting.dataset.name, s) == setting.name)
    return config.model_copy(
        update={
            "dataset": (setting.dataset.name,),
            "shots": (shots,),
            "space": str(path),
            # The values that are set are fixed in it.
            "set": {},
            # The published point counts as one.
            "trials": 2 if winner.origin in SEARCHED else 1,
            "sampler": "tpe",
            "budget": None,
            "device_hours": None,
            "ledger": None,
            "min_accuracy": None,
            "name": f"{config.name}-best",
        }
    )
