"""The tables of confirmation: the confirmed trials, and the bare classifier at every sigma."""

from __future__ import annotations

from typing import Any

from results import files
from results.schema import BASELINES, CONFIRMATION
from results.store import write_table
from tuning.cluster.context import Context
from tuning.confirmation.selection import Confirmation
from tuning.setting.setting import Setting


def write_confirmation(setting: Setting, confirmation: Confirmation, context: Context) -> None:
    """Write confirmation.parquet and baselines.parquet."""
    images = len(setting.shots.tuning_labels) * confirmation.folds
    rows = _confirmation_rows(confirmation, images)
    write_table(setting.folder / files.CONFIRMATION, rows, CONFIRMATION, context.provenance)
    bare = _baseline_rows(confirmation, images)
    write_table(setting.folder / files.BASELINES, bare, BASELINES, context.provenance)


def _confirmation_rows(confirmation: Confirmation, images: int) -> list[dict[str, Any]]:
    """One row per confirmed trial, as in results.schema.CONFIRMATION."""
    rows = []
    certified = confirmation.variants | confirmation.further
    for confirmed in confirmation.trials:
        trial = confirmed.trial
        assert trial is not None
        assert trial.objective is not None
        variants = [name for name, chosen in certified.items() if chosen is confirmed]
        rows.append(
            {
                "number": trial.number,
                "root": trial.root,
                "origin": trial.origin,
                "variant": ", ".join(variants),
                "sigma": confirmed.sigma,
                "search_objective": trial.objective,
                "confirmed_objective": confirmed.score.mean,
                "standard_error": confirmed.score.standard_error,
                "confirmed_accuracy": confirmed.accuracy,
                "unseen_objective": confirmed.unseen,
                "optimism_gap": None
                if confirmed.unseen is None
                else trial.objective - confirmed.unseen,
                "votes": confirmation.votes,
                "folds": confirmation.folds,
                "images": images,
                "tied": any(confirmed is one for one in confirmation.tied),
                "selected": bool(variants),
            }
        )
    return rows


def _baseline_rows(confirmation: Confirmation, images: int) -> list[dict[str, Any]]:
    """One row per sigma of the bare classifier, as in results.schema.BASELINES."""
    return [
        {
            "sigma": confirmed.sigma,
            "objective": confirmed.score.mean,
            "accuracy": confirmed.accuracy,
            "votes": confirmation.votes,
            "images": images,
            "selected": confirmed is confirmation.variants["none"],
        }
        for confirmed in confirmation.bare
    ]
