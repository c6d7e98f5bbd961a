"""What a run would do and cost, without starting it."""

from __future__ import annotations

import math

from rich.table import Table

from results.schema import VARIANTS
from search_spaces import SearchSpace
from search_spaces.space import Value
from trainables.decrop.config import BASELINES, DecropConfig
from trainables.models.denoisers import DENOISERS
from tuning.cluster.resources import local_resources
from tuning.config import RunConfig, to_yaml
from tuning.monitoring.progress import Reporter
from tuning.setting.setting import Setting


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
    reporter.out.print(f"resources: {_resources(config)}", markup=False, highlight=False)
    reporter.out.print("dry run: nothing was started or written", highlight=False)


def confirmation_votes(config: RunConfig, setting: Setting, shortlist: int) -> int:
    """Votes that confirmation casts on `shortlist` trials and on the bare classifier."""
    images = config.confirm_folds * len(setting.shots.tuning_labels)
    return (shortlist + len(setting.space.sweep)) * images * config.confirm_votes


def search_share(config: RunConfig, setting: Setting) -> float:
    """The search's share of the training: the rest is for confirmation, and for the variants."""
    search = config.trials + len(BASELINES) * len(setting.space.sweep)
    return search / (search + _retrained(config))


def _shortlist(config: RunConfig) -> int:
    """Configurations that are confirmed: the best of the search, and of each baseline."""
    return min(config.candidates, config.trials - 1) + 1 + len(BASELINES)


def _retrained(config: RunConfig) -> int:
    """Denoisers that are trained after the search: for each fold, and on all shots."""
    return _shortlist(config) * config.confirm_folds + _certified(config) - 1


def _certified(config: RunConfig) -> int:
    """Models that are certified: the variants, and at most every confirmed one as of the front."""
    return len(VARIANTS) + (_shortlist(config) if config.pareto else 0)


def _plan(config: RunConfig, setting: Setting) -> dict[str, str]:
    space = setting.space
    trained = DecropConfig.model_validate({**space.published, **space.fixed})
    smallest = min(int(size) for size in _values(space, "batch_size", trained.batch_size))
    plain = len(BASELINES) * len(setting.space.sweep)
    trials = config.trials + plain
    images, tuning = len(setting.shots.train_labels), len(setting.shots.tuning_labels)
    steps = trained.epochs * math.ceil(images / smallest)
    reports = trials * len(setting.rungs)
    confirm = confirmation_votes(config, setting, _shortlist(config))
    certify = _certified(config) * config.certify_images * (config.n0 + config.n)
    sizes = [
        f"{name} {' or '.join(map(str, _values(space, name, getattr(trained, name))))}"
        for name in DENOISERS[trained.denoiser].sizes
    ]
    rows = {
        "search space": f"{setting.space.name}: {', '.join(setting.space.parameters)}",
        "images": f"{images} to train, {tuning} to tune, {config.certify_images} to certify",
        "denoiser": f"{trained.denoiser}: {', '.join(sizes)}",
        "trials": f"{config.trials} of the search, {plain} of plain denoised smoothing",
        "rungs (epochs)": ", ".join(str(rung) for rung in setting.rungs),
        "confirmation": f"{_shortlist(config)} configurations on {config.confirm_folds} folds each",
        "budget": f"{search_share(config, setting):.0%} search, the rest confirmation",
        "training steps": f"at most {(trials + _retrained(config)) * steps:,}",
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
    """The extreme values of a hyperparameter, or its only one."""
    return space.parameters[name].corners() if name in space.parameters else (constant,)


def _resources(config: RunConfig) -> str:
    if config.cluster is not None:
        return f"Ray cluster {config.cluster}, {config.cpus_per_trial} cores a trial"
    found = local_resources(config)
    return (
        f"local Ray, {found.concurrency} workers of {found.cpus_per_trial} cores and "
        f"{found.gpus_per_trial:g} GPUs"
    )
