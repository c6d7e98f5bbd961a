"""What a run would do and cost, without starting it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial

from rich.table import Table

from search_spaces import SearchSpace
from search_spaces.space import Value
from trainables.data.images import say_notes
from trainables.decrop.config import DecropConfig
from trainables.models.denoisers import DENOISERS
from tuning.cluster.resources import local_resources
from tuning.config import RunConfig, is_endpoint, to_yaml
from tuning.monitoring.progress import Reporter
from tuning.monitoring.steps import duration, short
from tuning.run.cost import Cost, expected_cost
from tuning.search.budget import (
    certified_models,
    confirmation_votes,
    later_trainings,
    search_share,
    shortlist_size,
)
from tuning.setting.classifier import untrained_classifier
from tuning.setting.setting import Setting
from tuning.study.points import compared

UNTIMED = "not timed: an endpoint may charge for it"


def describe_plan(
    config: RunConfig, settings: list[Setting], reporter: Reporter, as_json: bool
) -> None:
    """Print the resolved configuration, the studies, the resources and the expected cost."""
    reporter.out.print(to_yaml(config).rstrip(), markup=False, highlight=False)
    reporter.say("timing a few training steps and votes ...")
    costs = {setting.name: _cost(config, setting) for setting in settings}
    plans = {
        setting.name: _plan(config, setting) | _cost_rows(costs[setting.name])
        for setting in settings
    }
    reporter.out.print(_table(plans))
    say_notes(
        [setting.dataset for setting in settings],
        partial(reporter.out.print, markup=False, highlight=False),
    )
    total = _total(config, [cost for cost in costs.values() if cost is not None])
    for line in (f"resources: {_resources(config)}", f"cost: {total}"):
        reporter.out.print(line, markup=False, highlight=False, soft_wrap=True)
    reporter.out.print("dry run: nothing was started or written", highlight=False)
    if as_json:
        seconds = {name: None if cost is None else cost._asdict() for name, cost in costs.items()}
        found = {"config": config.model_dump(mode="json"), "plan": plans, "cost": seconds}
        print(json.dumps(found | {"workers": _workers(config)}), flush=True)


def _table(plans: Mapping[str, Mapping[str, str]]) -> Table:
    table = Table(title="studies")
    for column in ("", *plans):
        table.add_column(column)
    rows = list(plans.values())
    for label in rows[0]:
        table.add_row(label, *(row[label] for row in rows))
    return table


def _cost(config: RunConfig, setting: Setting) -> Cost | None:
    """What the setting costs; None behind an endpoint, which may charge for being timed."""
    if config.classifier is not None and is_endpoint(config.classifier):
        return None
    images = setting.shots.train_images
    classifier = untrained_classifier(config, setting.dataset, images)
    return expected_cost(config, setting, classifier, local_resources(config).device)


def _cost_rows(cost: Cost | None) -> dict[str, str]:
    """The rows of the table about the cost."""
    names = ("time to search", "time to confirm", "time to certify", "disk")
    if cost is None:
        return dict.fromkeys(names, UNTIMED)
    times = [f"about {duration(seconds)} of a worker" for seconds in cost[:3]]
    return dict(zip(names, [*times, f"about {short(cost.disk)}B"], strict=True))


def _total(config: RunConfig, costs: Sequence[Cost]) -> str:
    """The cost of all settings that could be timed."""
    if not costs:
        return UNTIMED
    seconds, workers = sum(cost.seconds for cost in costs), _workers(config)
    said = f"about {duration(seconds)} of a worker like this machine's"
    if workers is not None:
        said += f", {duration(seconds / workers)} on {workers} of them"
    return f"{said}; about {short(sum(cost.disk for cost in costs))}B on disk"


def _workers(config: RunConfig) -> int | None:
    """How many workers there will be; None if only the cluster knows."""
    return config.concurrency if config.cluster else local_resources(config).concurrency


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
