"""What a run would do and cost, without starting it."""

from __future__ import annotations

from functools import partial

from rich.table import Table

from search_spaces import SearchSpace
from search_spaces.space import Value
from trainables.data.images import say_notes
from trainables.decrop.config import DecropConfig
from trainables.models.denoisers import DENOISERS
from tuning.cluster.resources import local_resources
from tuning.config import RunConfig, to_yaml
from tuning.monitoring.progress import Reporter
from tuning.search.budget import (
    certified_models,
    confirmation_votes,
    later_trainings,
    search_share,
    shortlist_size,
)
from tuning.setting.setting import Setting
from tuning.study.points import compared


def describe_plan(config: RunConfig, settings: list[Setting], reporter: Reporter) -> None:
    """Print the resolved configuration, the studies, the resources and the expected cost."""
    reporter.out.print(to_yaml(config).rstrip(), markup=False, highlight=False)
    table = Table(title="studies")
    for column in ("", *(setting.name for setting in settings)):
        table.add_column(column)
    rows = [_plan(config, setting) for setting in settings]
    for label in rows[0]:
        table.add_row(label, *(row[label] for row in rows))
    reporter.out.print(table)
    say_notes(
        [setting.dataset for setting in settings],
        partial(reporter.out.print, markup=False, highlight=False),
    )
    reporter.out.print(f"resources: {_resources(config)}", markup=False, highlight=False)
    reporter.out.print("dry run: nothing was started or written", highlight=False)


def _plan(config: RunConfig, setting: Setting) -> dict[str, str]:
    space = setting.space
    trained = DecropConfig.model_validate(space.named)
    baselines = len(compared(space))
    trials = config.trials + baselines
    images, tuning = len(setting.shots.train_labels), len(setting.shots.tuning_labels)
    steps = setting.steps_in_epoch
    most = trained.epochs * max(steps.values())
    reports = trials * len(setting.rungs)
    shortlist = shortlist_size(config)
    confirm = confirmation_votes(config, setting, shortlist)
    certify = certified_models(config) * len(setting.test.indices) * (config.n0 + config.n)
    sizes = [
        f"{name} {' or '.join(map(str, _values(space, name, getattr(trained, name))))}"
        for name in DENOISERS[trained.denoiser].sizes
    ]
    rows = {
        "search space": f"{setting.space.name}: {', '.join(setting.space.parameters)}",
        "images": f"{images} to train, {tuning} to tune, {len(setting.test.indices)} to certify",
        "denoiser": f"{trained.denoiser}: {', '.join(sizes)}",
        "trials": f"{config.trials} of the search, {baselines} of baselines at other sigmas",
        "rungs (steps)": "\n".join(
            f"{', '.join(f'{rung * each:,}' for rung in setting.rungs)} in batches of {size}"
            for size, each in steps.items()
        ),
        "confirmation": f"{shortlist} configurations on {config.confirm_folds} folds each",
        "budget": f"{search_share(config, setting):.0%} search, the rest confirmation",
        "training steps": f"at most {(trials + later_trainings(config)) * most:,}",
        "votes to search": f"at most {reports * tuning * config.tuning_votes:,}",
        "votes to confirm": f"at most {confirm:,}",
        "votes to certify": f"at most {certify:,}",
    }
    if config.access == "black-box":
        # Trials are scored through the surrogate; every later vote asks the classifier itself.
        asked = config.query_budget + confirm + certify
        rows["queries"] = f"at most {asked:,}, of which {config.query_budget:,} to train"
    return rows


def _values(space: SearchSpace, name: str, constant: int) -> tuple[Value, ...]:
    """The extreme values of a hyperparameter, or its constant value."""
    return space.parameters[name].corners() if name in space.parameters else (constant,)


def _resources(config: RunConfig) -> str:
    if config.cluster is not None:
        return f"Ray cluster {config.cluster}, {config.cpus_per_trial} cores a trial"
    found = local_resources(config)
    return (
        f"local Ray, {found.concurrency} workers of {found.cpus_per_trial} cores and "
        f"{found.gpus_per_trial:g} GPUs"
    )
