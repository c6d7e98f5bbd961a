"""Finished runs by the code that writes those of users, from invented votes and no training."""

import asyncio
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from results.summary import write_summary
from tests.support.records import record
from trainables.data.datasets import load_dataset
from trainables.models.architectures import DigitsCNN
from trainables.models.classifiers import BaseClassifier
from trainables.models.denoisers import DnCNN
from trainables.smoothing.noise import derive_seed
from trainables.weights.checkpoint import weights_hash
from trainables.weights.denoiser_file import denoiser_bytes
from tuning.certification.certificates import certify
from tuning.certification.subjects import Model, Subject
from tuning.cluster.connection import Cluster
from tuning.cluster.context import Context
from tuning.cluster.pool import Urgency
from tuning.cluster.resources import Resources
from tuning.cluster.storage import local_storage
from tuning.config import RunConfig, make_config, to_yaml
from tuning.confirmation.confirm import choose_variants, confirmed
from tuning.confirmation.draws import Draws
from tuning.confirmation.scoring import FoldScores
from tuning.confirmation.selection import Confirmation, Confirmed
from tuning.confirmation.tables import write_confirmation
from tuning.monitoring.progress import Reporter
from tuning.run.folder import RunFolder
from tuning.run.manifest import Manifest
from tuning.search.trials_table import write_trials
from tuning.setting.setting import Setting, make_settings
from tuning.study.attempts import TrialRecord
from tuning.votes.collector import PIECES
from tuning.votes.counter import VoteCounter, Voter
from tuning.votes.job import ImageVotes, Outcome, VoteJob
from tuning.votes.store import Counts, VoteKey, VoteStore

# Few images and votes, so that it can be verified many times a second.
SMALL: dict[str, Any] = {
    "shots": "3", "certify_images": 8, "n": 2000, "n0": 50, "confirm_votes": 100,
    "trials": 3, "precision": "float32",
}  # fmt: skip
CLASSES = 10


class InventedVotes(VoteCounter):
    """Counts votes that no model has cast: most of an image are for its label, some for others."""

    def voter(self, model: nn.Module, shape: Sequence[int]) -> Voter:
        """The model as it is."""
        return Voter(model, f"{weights_hash(model)}-{self.precision}")

    async def count(
        self, job: VoteJob[Any], urgency: Urgency, advance: Callable[[int], None]
    ) -> list[Outcome[Any]]:
        """The outcomes, after the votes were stored."""
        counted: dict[VoteKey, Counts] = {}
        outcomes = [
            self._outcome(ImageVotes(job, place, job.evaluate(), PIECES["cpu"]), counted)
            for place, _ in enumerate(job.indices)
        ]
        self.store.put(counted)
        advance(len(outcomes) * job.most)
        return outcomes

    def _outcome(self, image: ImageVotes[Any], counted: dict[VoteKey, Counts]) -> Outcome[Any]:
        while not isinstance(needed := image.advance(), Outcome):
            for key in needed:
                counted[key] = Counts(_invented(key), 0.001 * key.size, "192.0.2.1")
                image.add(key, counted[key])
        return needed


def write_finished(out: Path, **changes: Any) -> Path:
    """Write a run that has ended; returns its folder. `changes` are of its configuration."""
    config = make_config({**SMALL, "name": "finished", "out": out, **changes})
    folder = RunFolder(config.run_folder)
    folder.path.mkdir(parents=True)
    folder.config.write_text(to_yaml(config))
    cluster = Cluster("local", None, Resources(1, 0.0, 2), local_storage(folder.path))
    manifest = Manifest(folder.manifest, config, cluster, {})
    context = Context(config, cluster, _Silent(), manifest.run_id)
    rows = []
    for setting in make_settings(config):
        rows += _finish(setting, manifest, context)
        write_summary(folder.summary, rows, context.provenance)
    manifest.seal(folder.path)
    return folder.path


def _finish(setting: Setting, manifest: Manifest, context: Context) -> list[dict[str, Any]]:
    """Write everything of a setting; returns its rows of the summary."""
    setting.folder.mkdir()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        classifier = BaseClassifier(DigitsCNN())
        denoisers = {variant: DnCNN(1, 3, 4) for variant in ("label_consistency", "published")}
        denoisers |= {"published_best_sigma": DnCNN(1, 3, 4), "best": DnCNN(1, 3, 4)}
    manifest.add_setting(setting, classifier)
    manifest.record(setting.name, precision="float32", training_precision="float32")
    records = invented_records()
    write_trials(setting, records, context)
    confirmation = chosen_variants(records, context.config)
    write_confirmation(setting, confirmation, context)
    store = VoteStore(setting.folder / "votes.db")
    _store_confirmation(store, setting, context)
    chosen = confirmation.variants | confirmation.further
    models = {}
    for variant in ("none", "label_consistency", "published", "published_best_sigma", "best"):
        denoiser, confirmed = denoisers.get(variant), chosen[variant]
        trial = confirmed.trial
        models[variant] = Model(
            denoiser,
            confirmed.sigma,
            trial.origin if trial else "none",
            trial.number if trial else None,
            confirmed.score.mean,
            confirmed.accuracy,
        )
        if denoiser is not None:
            file = setting.folder / "denoisers" / f"{variant}.safetensors"
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(denoiser_bytes(denoiser, confirmed.sigma))
    subject = Subject(
        setting.name, setting.dataset, setting.test, models, setting.pixel_steps, setting.radii
    )
    counter = InventedVotes(store, "float32", context.pool)
    return asyncio.run(certify(subject, classifier, setting.folder, counter, context))


def invented_records() -> list[TrialRecord]:
    """The trials of a search that has ended."""
    return [
        record(0, "published", 0.5, sigma=0.25),
        record(1, "published_sigma", 0.55, sigma=0.12),
        record(2, "label_consistency", 0.45, sigma=0.25, w_cosine=0.0, w_mmd=0.0),
        record(3, "search", 0.6, sigma=0.5),
        record(4, "search", 0.3, sigma=0.375, state="pruned"),
        record(5, "search", 0.0, sigma=0.3, state="failed", error="RuntimeError: not finite"),
    ]


def chosen_variants(records: Sequence[TrialRecord], config: RunConfig) -> Confirmation:
    """The variants that follow from invented scores of the first four of `records`."""
    rng = np.random.default_rng(0)
    draws = Draws(folds=(0,) * 6 + (1,) * 6, images=tuple(range(12)))

    def scored(trial: TrialRecord | None, sigma: float, level: float) -> Confirmed:
        unseen = None if level == 0.2 else level + 0.05
        scores = FoldScores(level + rng.normal(0, 0.01, 12), np.ones(12), draws, unseen)
        return confirmed(trial, sigma, scores)

    levels = (0.5, 0.6, 0.4, 0.9)
    trained = [
        scored(trial, trial.hyperparameters.sigma, level)
        for trial, level in zip(records, levels, strict=False)
    ]
    bare = [scored(None, sigma, level) for sigma, level in ((0.12, 0.3), (0.25, 0.2))]
    return choose_variants(trained, bare, config)


def _store_confirmation(store: VoteStore, setting: Setting, context: Context) -> None:
    seed = context.seed(setting.name, "confirm")
    keys = [
        VoteKey("of-a-fold", "confirm", image, 0.25, 0, seed, start, start + 50)
        for image in setting.shots.tuning_indices
        for start in (0, 50)
    ]
    store.put({key: Counts(_invented(key), 0.1, "192.0.2.1") for key in keys})


def _invented(key: VoteKey) -> list[int]:
    labels = _labels()
    label = labels[key.image % len(labels)]
    rng = np.random.default_rng(derive_seed(key.model, key.image))
    top = label if rng.random() < 0.9 else (label + 1) % CLASSES
    shares = np.full(CLASSES, 0.004)
    shares[(label + 3) % CLASSES] = rng.choice([0.004, 0.1, 0.4])
    shares[top] += 1 - shares.sum()
    votes = np.random.default_rng(derive_seed(*key)).multinomial(key.size, shares)
    return [int(number) for number in votes]


@cache
def _labels() -> list[int]:
    found: list[int] = load_dataset("digits").test.labels.tolist()
    return found


class _Silent(Reporter):
    """Says nothing."""

    def say(self, message: str) -> None:
        pass
