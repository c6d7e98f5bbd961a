"""What is declared of a search to those who watch it: TensorBoard's columns, and notes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, get_args

from results.files import LEDGER, REPORT, TENSORBOARD
from results.metrics import certified_metrics
from results.schema import ORIGINS
from search_spaces.space import Value
from trainables.decrop.config import DecropConfig
from tuning.config import RunConfig
from tuning.monitoring.tensorboard import ORIGIN
from tuning.setting.setting import Setting
from tuning.study.database import sqlite_url
from tuning.study.ledger import Ledger

if TYPE_CHECKING:
    from tuning.search.search import Part


def watch(parts: Sequence[Part], config: RunConfig) -> None:
    """Say in TensorBoard and optuna-dashboard what is searched, before it is."""
    columns = _columns([part.setting for part in parts])
    radii = {at for part in parts for at in part.setting.radii}
    for part in parts:
        part.board.columns(columns, certified_metrics(radii), about(part.setting, config))
        part.board.best.update(best_scores(part.ledger))
        part.ledger.note(note_of(part.setting.name, config))


def best_scores(ledger: Ledger) -> dict[int, float]:
    """The highest objective at each rung among the trials that have ended, by its epochs."""
    best: dict[int, float] = {}
    for trial in ledger.attempts.settled.values():
        scores = dict(trial.intermediate_values)
        if trial.values:
            scores[ledger.rungs[-1]] = trial.values[0]
        for epochs, score in scores.items():
            best[epochs] = max(score, best.get(epochs, score))
    return best


def study_place(setting: str, config: RunConfig) -> tuple[str, str]:
    """The database of a setting's study, and its name there."""
    if config.ledger is None:
        return sqlite_url(config.run_folder / LEDGER), setting
    # In a database of many runs, a study needs a name of its own.
    return config.ledger, f"{config.name}/{setting}"


def note_of(setting: str, config: RunConfig, *said: str) -> str:
    """The note of a study, with sentences about what came of it."""
    folder = config.run_folder.absolute()
    return "\n\n".join(
        [
            f"## {config.name}: {setting}",
            *said,
            f"- report: `{folder / REPORT}`\n"
            f"- TensorBoard: `tensorboard --logdir {folder / TENSORBOARD}`",
            "A weight of 0 means that the trial was without this term of the loss. Parameters that "
            "a trial does not show were not varied in it. This study is the run's own record: do "
            "not delete or rename anything here.",
        ]
    )


def about(setting: Setting, config: RunConfig) -> str:
    """A setting in Markdown, for TensorBoard."""
    constants = DecropConfig.model_validate(setting.space.constants).model_dump()
    fixed = {name: v for name, v in constants.items() if name not in setting.space.parameters}
    shots = setting.shots
    return "\n".join(
        [
            f"## {config.name}: {setting.name}",
            f"{len(shots.train_labels)} images to train on, {len(shots.tuning_labels)} to score "
            f"trials on. Maximised is `{config.objective}` (`evaluation/objective`). Trials are "
            f"compared after {_listed(setting.rungs)} epochs. Baselines may hold other values than "
            "these, which the search does not vary:",
            "",
            *_table(fixed),
        ]
    )


def _columns(settings: Sequence[Setting]) -> dict[str, Sequence[Value]]:
    """What varies in one of the settings, and sigma in any case; with all values but numbers."""
    names = dict.fromkeys(["sigma", *(n for s in settings for n in s.space.parameters)])
    return {ORIGIN: list(ORIGINS), **{name: _values(name) for name in names}}


def _values(name: str) -> Sequence[Value]:
    """All values of a hyperparameter, unless it is a number."""
    annotation = DecropConfig.model_fields[name].annotation
    named = (False, True) if annotation is bool else get_args(annotation)
    return [value for value in named if isinstance(value, bool | str)]


def _listed(values: Iterable[int]) -> str:
    return ", ".join(map(str, values))


def _table(values: Mapping[str, object]) -> list[str]:
    rows = [f"| {name} | {value} |" for name, value in values.items()]
    return ["| hyperparameter | value |", "|---|---|", *rows]
