"""What follows the search: what begins before the choice, and what a diverging training leaves."""

import asyncio
import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from tests.support.finished import SMALL, InventedVotes, chosen_variants, invented_records
from trainables.models.architectures import DigitsCNN
from trainables.models.classifiers import BaseClassifier
from trainables.models.denoisers import Denoiser, DnCNN
from tuning.certification import certificates
from tuning.cluster.connection import Cluster
from tuning.cluster.context import Context
from tuning.cluster.pool import Urgency
from tuning.cluster.resources import Resources
from tuning.cluster.storage import local_storage
from tuning.config import make_config
from tuning.confirmation.selection import Confirmation
from tuning.confirmation.training import Training
from tuning.errors import AllTrialsFailed
from tuning.monitoring.progress import Reporter
from tuning.monitoring.steps import short
from tuning.run import after_search
from tuning.run.after_search import finish
from tuning.run.manifest import Manifest
from tuning.run.pipeline import Rows
from tuning.setting.setting import make_settings

# Longer than anything that goes on without waiting for somebody else.
MANY = 1000


class PretendedTrainer:
    """Trains nothing; final trainings diverge at the sigmas in `diverging`.

    Trainings of the confirmation take `slow` turns of everything else, and `ended` says in which
    order trainings end.
    """

    def __init__(self, diverging: Sequence[float] = (), slow: int = 0) -> None:
        self.diverging, self.slow = diverging, slow
        self.ended: list[Urgency] = []
        # The sigmas of the trainings of the confirmation, as they begin.
        self.confirmed: list[float] = []

    async def train(self, training: Training, urgency: Urgency) -> Denoiser | None:
        config = training.hyperparameters
        final = urgency in (Urgency.FIRST_TABLE, Urgency.FINAL_TRAINING)
        self.confirmed += [] if final else [config.sigma]
        for _ in range(0 if final else self.slow):
            await asyncio.sleep(0)
        self.ended.append(urgency)
        return None if final and config.sigma in self.diverging else DnCNN(1, 3, 4)


class Run:
    """A setting whose search has ended, with the trials of finished runs."""

    def __init__(
        self, folder: Path, trainer: PretendedTrainer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        config = make_config({**SMALL, "name": "x", "out": folder})
        config.run_folder.mkdir(parents=True)
        cluster = Cluster("local", None, Resources(1, 0.0, 2), local_storage(folder))
        self.written, reporter = io.StringIO(), Reporter()
        reporter.err = Console(file=self.written, width=100)
        self.manifest = Manifest(config.run_folder / "manifest.json", config, cluster, {})
        self.context = Context(config, cluster, reporter)
        (self.setting,) = make_settings(config)
        self.setting.folder.mkdir()
        self.trainer, self.turns = trainer, 0
        self.ledger: Any = SimpleNamespace(
            attempts=SimpleNamespace(records=invented_records),
            baselines_finished=True,
            finished=False,
        )
        monkeypatch.setattr(after_search, "Trainer", lambda *arguments: trainer)
        monkeypatch.setattr(after_search, "VoteCounter", InventedVotes)
        monkeypatch.setattr(after_search, "export", lambda *arguments: None)
        monkeypatch.setattr(after_search, "show_denoised", lambda *arguments: None)
        monkeypatch.setattr(
            after_search, "_record_insight", lambda part, config: self.drawn.append(part)
        )
        self.drawn: list[Any] = []

    def finish(self) -> Rows:
        classifier = BaseClassifier(DigitsCNN())
        part: Any = SimpleNamespace(
            setting=self.setting,
            task=None,
            board=None,
            access=SimpleNamespace(certified=classifier, queries={}),
            ledger=self.ledger,
        )
        self.manifest.add_setting(self.setting, classifier)
        pool, over = self.context.pool, asyncio.Event()
        finishing = pool.begin(finish(part, over, self.context, self.manifest))
        # The search.
        for _ in range(self.turns):
            pool.turn()
        self.beside = list(self.trainer.ended)
        over.set()

        async def finished() -> Rows:
            return await finishing

        return pool.run(finished())


def test_what_is_certain_is_trained_and_certified_while_the_rest_is_confirmed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(tmp_path, PretendedTrainer(slow=MANY), monkeypatch)
    rows = run.finish()
    assert len(run.drawn) == 1
    # Denoised smoothing and the published values.
    assert run.trainer.ended[:2] == [Urgency.FIRST_TABLE] * 2
    assert Urgency.CONFIRMATION_TRAINING in run.trainer.ended
    assert {row["variant"] for row in rows} == {
        "none",
        "label_consistency",
        "published",
        "published_best_sigma",
        "best",
    }
    tables = [run.setting.folder / name for name in ("certificates.parquet", "front.parquet")]
    certificates = [row for table in tables for row in pq.read_table(table).to_pylist()]
    assert len(certificates) == len(rows) * SMALL["certify_images"]
    # Also those votes are shown that were counted before there was a bar for them.
    votes = len(rows) * SMALL["certify_images"] * (SMALL["n"] + SMALL["n0"])
    assert f"certification votes: {short(votes)}/{short(votes)}" in run.written.getvalue()


def test_a_first_table_shows_what_is_certain_on_a_few_images_before_the_rest_is_confirmed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certificates, "FIRST_IMAGES", 4)
    run = Run(tmp_path, PretendedTrainer(slow=MANY), monkeypatch)
    run.finish()
    text = run.written.getvalue()
    title = f"digits-3shot, so far (4 of {SMALL['certify_images']} images)"
    assert text.count(title) == 1
    table = text[text.index(title) :]
    lines = [line.split() for line in table.splitlines()[3:5]]
    assert [line[:2] for line in lines] == [["Denoised", "smoothing"], ["DE-CROP,", "published"]]
    # Their certificates are in the order of the images all the same.
    path = run.setting.folder / "certificates.parquet"
    rows = pq.read_table(path, filters=[("variant", "=", "published")]).to_pylist()
    assert [row["image_index"] for row in rows] == run.setting.test.indices
    labels = run.setting.test.labels.tolist()
    assert [row["label"] for row in rows] == labels


def test_what_is_certain_begins_beside_the_search_once_the_baselines_are_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for known, begun in ((False, []), (True, [Urgency.FIRST_TABLE] * 2)):
        run = Run(tmp_path / str(known), PretendedTrainer(), monkeypatch)
        run.turns, run.ledger.baselines_finished = MANY, known
        run.finish()
        assert run.beside == begun


def test_a_setting_is_finished_while_others_are_still_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(tmp_path, PretendedTrainer(), monkeypatch)
    run.turns, run.ledger.finished = MANY, True
    run.finish()
    assert Urgency.CONFIRMATION_TRAINING in run.beside
    assert run.beside == run.trainer.ended


def test_the_longest_training_of_the_confirmation_begins_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for sigma in (0.12, 0.5):
        run = Run(tmp_path / str(sigma), PretendedTrainer(), monkeypatch)
        run.ledger.attempts.records = lambda sigma=sigma: [
            replace(record, seconds=2.0 if record.hyperparameters.sigma == sigma else 1.0)
            for record in invented_records()
        ]
        run.finish()
        assert run.trainer.confirmed[0] == sigma


def test_what_diverges_at_the_end_is_left_out_unless_it_is_a_variant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def confirm(*arguments: Any) -> Confirmation:
        return chosen_variants(invented_records(), arguments[-1].config)

    monkeypatch.setattr(after_search, "confirm", confirm)
    # Published at its best sigma is at .12, and nothing else is.
    rows = Run(tmp_path / "a", PretendedTrainer([0.12]), monkeypatch).finish()
    assert {row["variant"] for row in rows} == {"none", "label_consistency", "published", "best"}
    with pytest.raises(AllTrialsFailed, match="label_consistency: trial 2 diverged"):
        Run(tmp_path / "b", PretendedTrainer([0.25]), monkeypatch).finish()
