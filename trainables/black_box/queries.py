"""Access to a classifier only through counted queries: no weights, no gradients.

Answers are kept on disk, so that an interrupted or repeated training asks nothing twice.
"""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.errors import InputError
from trainables.weights.checkpoint import weights_hash

BATCH = 256
# Seconds to wait for a different process, which locks the file while its batch is being answered.
LOCK_TIMEOUT = 3600.0


class QueryBudgetSpent(InputError):
    """More answers are needed than the query budget allows."""


class Queries:
    """At most `budget` questions to `classifier`, with the answers so far in the file `path`.

    `classifier` maps images [batch, C, H, W] to logits or one-hot labels [batch, classes]; it is
    identified by its weights, so that one file can serve several. Processes may share the file.

    Raises:
        InputError: when `path` is not such a file.
    """

    def __init__(self, classifier: nn.Module, path: Path, budget: int) -> None:
        self.budget = budget
        self._classifier, self._path = classifier, path
        self._identity = weights_hash(classifier)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with closing(self._connect()) as db, db:
                db.execute(
                    "CREATE TABLE IF NOT EXISTS answers (classifier TEXT, image TEXT, answer BLOB, "
                    "PRIMARY KEY (classifier, image))"
                )
        except sqlite3.DatabaseError as error:
            raise InputError(f"{path}: answers cannot be kept there ({error}); move it") from error

    @property
    def asked(self) -> int:
        """How many images the classifier has answered so far, in this and in earlier processes."""
        with closing(self._connect()) as db:
            return self._count(db)

    @property
    def remaining(self) -> int:
        """How many more images may be asked."""
        return max(0, self.budget - self.asked)

    def ask(self, images: Tensor) -> Tensor:
        """The classifier's answers for images [n, C, H, W]: float32 [n, classes].

        Raises:
            QueryBudgetSpent: when more images are new than the budget has left; none is sent.
            InputError: when an answer is not finite, or the classifier itself fails.
        """
        images = images.detach().float()
        keys = [_key(image) for image in images]
        new = {key: index for index, key in enumerate(keys)}
        with closing(self._connect()) as db:
            known = self._known(db, keys)
            for key in known:
                del new[key]
            self._check_budget(db, len(new))
        order = list(new.items())
        for start in range(0, len(order), BATCH):
            batch = {key: images[index] for key, index in order[start : start + BATCH]}
            known |= self._send(batch)
        return torch.stack([known[key] for key in keys]).to(images.device)

    def _send(self, wanted: dict[str, Tensor]) -> dict[str, Tensor]:
        with closing(self._connect()) as db, db:
            # The process that asks locks the file, so two never ask the same or exceed the budget.
            db.execute("BEGIN IMMEDIATE")
            known = self._known(db, list(wanted))
            new = {key: image for key, image in wanted.items() if key not in known}
            self._check_budget(db, len(new))
            if new:
                answers = self._answers(torch.stack(list(new.values())))
                rows = [
                    (self._identity, key, answer.numpy().astype("<f4").tobytes())
                    for key, answer in zip(new, answers, strict=True)
                ]
                db.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?, ?)", rows)
                known |= dict(zip(new, answers, strict=True))
        return known

    @torch.no_grad()
    def _answers(self, images: Tensor) -> Tensor:
        answers: Tensor = self._classifier(images).detach().float().cpu()
        if not answers.isfinite().all():
            raise InputError("it answered with a logit that is not finite", field="classifier")
        return answers

    def _check_budget(self, db: sqlite3.Connection, wanted: int) -> None:
        asked = self._count(db)
        if wanted and asked + wanted > self.budget:
            raise QueryBudgetSpent(
                f"{self.budget} queries are allowed and {asked} are spent, but training the "
                f"surrogate needs {wanted} more; pass {asked + wanted} or more",
                field="query_budget",
            )

    def _count(self, db: sqlite3.Connection) -> int:
        (count,) = db.execute(
            "SELECT COUNT(*) FROM answers WHERE classifier = ?", (self._identity,)
        ).fetchone()
        return int(count)

    def _known(self, db: sqlite3.Connection, keys: list[str]) -> dict[str, Tensor]:
        select = "SELECT answer FROM answers WHERE classifier = ? AND image = ?"
        rows = {key: db.execute(select, (self._identity, key)).fetchone() for key in keys}
        return {
            key: torch.from_numpy(np.frombuffer(row[0], "<f4").astype(np.float32))
            for key, row in rows.items()
            if row is not None
        }

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path, timeout=LOCK_TIMEOUT)


class BlackBox(nn.Module):
    """A local network that only answers: gradients end at its logits, and its weights never change.

    With `labels_only` the answers are one-hot labels.
    """

    labels_only: Tensor

    def __init__(self, network: nn.Module, *, labels_only: bool = False) -> None:
        super().__init__()
        self.network = network
        # A buffer, because answers of the two kinds must not share a weights_hash.
        self.register_buffer("labels_only", torch.tensor(labels_only))
        self.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> BlackBox:
        """Stay in evaluation mode whatever `mode` is: batch norm's statistics must not change."""
        super().train(False)
        return self

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Logits or one-hot labels of images [batch, C, H, W]: float32 [batch, classes]."""
        logits: Tensor = self.network(images).detach().float()
        if self.labels_only:
            return F.one_hot(logits.argmax(dim=1), logits.shape[1]).float()
        return logits


def _key(image: Tensor) -> str:
    pixels = image.cpu().numpy().astype("<f4")
    return hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()
