"""The search in all settings of a run at once."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from trainables.task import TrialTask
from tuning.cluster.connection import Cluster
from tuning.cluster.storage import SCRATCH
from tuning.config import RunConfig
from tuning.monitoring.metrics import trial_ended
from tuning.monitoring.progress import Reporter
from tuning.monitoring.tensorboard import StudyBoard
from tuning.run import export as publish
from tuning.run.dry_run import search_share
from tuning.search.budget import Limits
from tuning.search.time_left import remaining_seconds
from tuning.search.tune import Study, run_search
from tuning.setting.classifier import Access
from tuning.setting.setting import Setting
from tuning.study.ledger import Ledger


class Part(NamedTuple):
    """One setting with all that its search needs."""

    setting: Setting
    access: Access
    ledger: Ledger
    task: TrialTask
    board: StudyBoard


def search(
    parts: Sequence[Part], config: RunConfig, cluster: Cluster, reporter: Reporter
) -> dict[str, float]:
    """Run all trials that are still to do; the seconds that took, by setting.

    All settings are searched side by side, so that one fills the pauses of another.
    """
    if all(part.ledger.finished for part in parts):
        return {}
    started = time.perf_counter()
    ledgers = [part.ledger for part in parts]
    total = sum(ledger.roots for ledger in ledgers)
    name = parts[0].setting.name if len(parts) == 1 else f"{len(parts)} settings"
    with reporter.track(f"{name}: search", total) as advance:
        before, shown, due = sum(ledger.seconds for ledger in ledgers), 0, -math.inf
        left: float | None = None

        def show() -> None:
            nonlocal shown, due, left
            done, now = total - sum(ledger.open_roots for ledger in ledgers), time.perf_counter()
            if now >= due:
                worked = sum(ledger.seconds for ledger in ledgers) - before
                left = remaining_seconds(ledgers, worked / (now - started))
                ended = time.perf_counter()
                due = ended + publish.PAUSE * (ended - now)
            advance(done - shown, left)
            shown = done

        show()
        source = sources([part.setting for part in parts], config)
        run_search(
            [_study(part, source[part.setting.name], config, cluster, show) for part in parts],
            resources=cluster.resources,
            scratch=cluster.storage / SCRATCH,
            limits=_limits(parts, config, cluster),
            transfer=config.transfer,
        )
    seconds = time.perf_counter() - started
    worked = sum(ledger.seconds for ledger in ledgers)
    return {
        part.setting.name: seconds * part.ledger.seconds / worked if worked else 0.0
        for part in parts
    }


def sources(settings: Sequence[Setting], config: RunConfig) -> dict[str, str | None]:
    """For each setting the one before it of the same data set, whose best points it takes over."""
    latest: dict[str, str] = {}
    found: dict[str, str | None] = {}
    for setting in settings:
        found[setting.name] = latest.get(setting.dataset.name) if config.transfer else None
        latest[setting.dataset.name] = setting.name
    return found


def _study(
    part: Part, source: str | None, config: RunConfig, cluster: Cluster, show: Callable[[], None]
) -> Study:
    table = publish.TrialsTable(part.setting.folder, part.setting.space)

    def on_end() -> None:
        table.update(part.ledger.records)
        latest = part.ledger.latest
        trial_ended(
            config.name,
            part.setting.name,
            latest.state,
            latest.seconds * cluster.resources.devices_per_trial,
            part.ledger.highest,
        )
        show()

    return Study(part.setting.name, part.ledger, part.task, part.board, on_end, source)


def _limits(parts: Sequence[Part], config: RunConfig, cluster: Cluster) -> Limits:
    """The budgets, less what confirmation is going to need of them."""
    share = min(search_share(config, part.setting) for part in parts)
    budget, hours = config.budget, config.device_hours
    return Limits(
        None if budget is None else time.monotonic() + share * budget,
        None if hours is None else share * hours * 3600,
        cluster.resources.devices_per_trial,
    )
