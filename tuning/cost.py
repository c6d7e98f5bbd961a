"""What a run would do and cost, without starting it."""

from __future__ import annotations

import math

from rich.table import Table

from results.schema import VARIANTS
from trainables.decrop.config import BASELINES, DecropConfig
from trainables.models.denoisers import DENOISERS
from tuning.cluster import local_resources
from tuning.config import RunConfig, to_yaml
from tuning.progress import Reporter
from tuning.setting import Setting


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


def confirmation_votes(setting: Setting, trials: int, *, votes: int, top: int) -> int:
    """Votes that confirmation casts after `trials` complete trials of the search."""
    plain = len(BASELINES) * len(setting.space.sweep)
    bare = len(setting.space.sweep)
    candidates = min(top, trials) + 1 + plain + bare
    return candidates * len(setting.shots.tuning_labels) * votes


def _plan(config: RunConfig, setting: Setting) -> dict[str, str]:
    trained = DecropConfig.model_validate(setting.space.constants)
    plain = len(BASELINES) * len(setting.space.sweep)
    trials = config.trials + plain
    images, tuning = len(setting.shots.train_labels), len(setting.shots.tuning_labels)
    steps = trained.epochs * math.ceil(images / trained.batch_size)
    reports = trials * len(setting.rungs)
    confirm = confirmation_votes(
        setting, config.trials - 1, votes=config.confirm_votes, top=config.confirm_top
    )
    certify = len(VARIANTS) * config.certify_images * (config.n0 + config.n)
    sizes = (f"{name} {getattr(trained, name)}" for name in DENOISERS[trained.denoiser].sizes)
    rows = {
        "search space": f"{setting.space.name}: {', '.join(setting.space.parameters)}",
        "images": f"{images} to train, {tuning} to tune, {config.certify_images} to certify",
        "denoiser": f"{trained.denoiser}: {', '.join(sizes)}",
        "trials": f"{config.trials} of the search, {plain} of plain denoised smoothing",
        "rungs (epochs)": ", ".join(str(rung) for rung in setting.rungs),
        "training steps": f"at most {trials * steps:,}",
        "votes to search": f"at most {reports * tuning * config.tuning_votes:,}",
        "votes to confirm": f"at most {confirm:,}",
        "votes to certify": f"{certify:,}",
    }
    if config.access == "black-box":
        # Trials are scored through the surrogate; every later vote asks the classifier itself.
        asked = config.query_budget + confirm + certify
        rows["queries"] = f"at most {asked:,}, of which {config.query_budget:,} to train"
    return rows


def _resources(config: RunConfig) -> str:
    if config.cluster is not None:
        return f"Ray cluster {config.cluster}, {config.cpus_per_trial} cores a trial"
    found = local_resources(config)
    return (
        f"local Ray, {found.concurrency} workers of {found.cpus_per_trial} cores and "
        f"{found.gpus_per_trial:g} GPUs"
    )
