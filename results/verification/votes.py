"""Certificates against the counts of their votes in `votes.db`."""

import hashlib
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from results import files
from results.run import Run, Setting
from results.schema import Row
from results.verification.counts import Counted, Counts, Stream
from results.verification.differences import differences


@dataclass(frozen=True)
class Recipe:
    """What a certificate is made with: its run's configuration, and what the setting adds to it.

    `sigma` and `radii` are in pixel units. The noise is rounded to multiples of 1 / `pixel_steps`;
    0 stands for Gaussian noise. An image has as many `pixels`, channels counted; it is one of as
    many `images`.
    """

    config: Mapping[str, Any]
    radii: Sequence[float]
    sigma: float
    pixel_steps: int
    pixels: int
    images: int


Draws = Callable[[str, int, int], list[int]]
"""The votes for each class of a phase's draws, from one number to another."""

Replay = Callable[[Recipe, Draws], Mapping[str, Any]]
"""The columns of the certificate that its procedure makes from recorded votes.

Raises:
    LookupError: if it asks for draws that were not counted.
    ValueError: if there is no such procedure.
"""


@dataclass(frozen=True)
class VoteCheck:
    """Compares the certificates of a setting with its votes.

    Without `replay`, which knows when a procedure has enough votes, their number is only compared
    with what was counted.
    """

    run: Run
    setting: Setting
    replay: Replay | None

    def problems(self, groups: Mapping[str, Sequence[Row]]) -> Iterator[str]:
        """What does not follow from the votes; `groups` are certificates by variant."""
        name, facts = self.setting.name, self.run.manifest["settings"][self.setting.name]
        try:
            counts = Counts(self.run.folder / name / files.VOTES, facts["classes"])
        except sqlite3.Error as error:
            yield f"{name}/{files.VOTES}: cannot be read: {error}"
            return
        for problem in counts.problems:
            yield f"{name}/{files.VOTES}, {problem}"
        for variant, rows in groups.items():
            for row in rows:
                select, estimate = (
                    self._counted(counts, row, phase) for phase in ("select", "estimate")
                )
                found = list(_against_counts(row, select, estimate))
                for problem in found or self._against_procedure(row, select, estimate):
                    yield f"{name}: {variant}, image {row['image_index']}: {problem}"

    def _counted(self, counts: Counts, row: Row, phase: str) -> Counted:
        metadata = self.setting.metadata
        model_hash = metadata[f"model_hash_{row['variant']}"]
        stream = Stream(
            f"{model_hash}-{metadata['precision']}",
            phase,
            row["image_index"],
            row["sigma"],
            int(metadata["pixel_steps"]),
            self._seed,
        )
        # A run that went on with a different device has pieces of both; a GPU's are the longer.
        return counts.of(stream, longest=metadata["device"] != "cpu")

    @cached_property
    def _seed(self) -> int:
        """The seed of the draws: 63 bits of a hash of what they depend on in all images."""
        config = self.run.config
        numbers = (config["procedure"], config["n0"], config["n"], config["alpha"])
        parts = (config["seed"], self.setting.name, "certify", *numbers)
        return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big") >> 1

    def _against_procedure(self, row: Row, select: Counted, estimate: Counted) -> Iterator[str]:
        """What the certificate's procedure would make of the same votes, where it differs."""
        if self.replay is None:
            return
        phases = {"select": select, "estimate": estimate}
        metadata, facts = self.setting.metadata, self.run.manifest["settings"][self.setting.name]
        recipe = Recipe(
            self.run.config,
            facts["radii"],
            row["sigma"],
            int(metadata["pixel_steps"]),
            int(metadata["pixels"]),
            len(facts["test_indices"]),
        )
        try:
            made = self.replay(recipe, lambda phase, *draws: phases[phase].between(*draws))
        except LookupError as error:
            yield f"n is {row['n']}, but its procedure asks for more: draw {error} was not counted"
            return
        except ValueError as error:
            yield f"procedure {row['procedure']} cannot be followed: {error}"
            return
        yield from differences("by its votes and procedure", row, made)


def _against_counts(row: Row, select: Counted, estimate: Counted) -> Iterator[str]:
    """What a certificate says about its votes, where they were not counted so."""
    if select.draws != row["n0"]:
        yield f"n0 is {row['n0']}, but {select.draws} votes that pick a class were counted"
        return
    if row["votes"] != (cast := select.draws + estimate.draws):
        yield f"votes is {row['votes']}, but {cast} were counted"
    picked = select.totals[select.draws]
    top = picked.index(max(picked))
    second, first = sorted(picked)[-2:]
    for name, counted in (("votes_selected", first), ("votes_selected_runner_up", second)):
        if row[name] != counted:
            yield f"{name} is {row[name]}, but {counted} were counted"
    if row["predicted"] not in (-1, top):
        yield f"predicted is {row['predicted']}, but the votes picked {top}"
    if row["n"] not in estimate.totals:
        yield f"n is {row['n']}, but {estimate.draws} votes were counted"
        return
    votes = estimate.totals[row["n"]]
    if row["votes_top"] != votes[top]:
        yield f"votes_top is {row['votes_top']}, but {votes[top]} were counted"
    others = [-1 if label == top else of_class for label, of_class in enumerate(votes)]
    if row["votes_runner_up"] != max(others) or row["runner_up"] != others.index(max(others)):
        yield (
            f"runner_up is {row['runner_up']} with {row['votes_runner_up']} votes, but "
            f"{others.index(max(others))} with {max(others)} was counted"
        )
    if row["procedure"] != "adaptive" and row["n"] != row["votes"] - row["n0"]:
        yield f"n is {row['n']}, but all votes but n0 count: {row['votes'] - row['n0']}"
