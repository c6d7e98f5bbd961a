"""What came of a search: who won, whether that is of any use, and better than what."""

from collections.abc import Sequence
from dataclasses import dataclass

from results.comparison import Comparison, compare
from results.run import Run, Setting
from results.schema import PUBLISHED_BEST_SIGMA, SEARCHED, Row

# A class that gets more than this share of all answers is suspicious, unless it has about as many
# of the images.
_HALF = 0.5
_EXCESS = 0.25


@dataclass(frozen=True)
class Verdict:
    """What came of a setting's search; the certificates are those on the test images.

    `best` is the winner's row of the summary. `same_as` names the variant whose trial it is, if the
    winner is a baseline. `comparisons` are with all others; `useful` holds those that beat
    guessing. `tied` holds the confirmed trials that cannot be told apart on the tuning images, if
    they differ in origin or sigma. `answer` is the name of the class answered most often. `bare` is
    the row of the classifier without a denoiser, if it was certified, and `clean_accuracy` as in
    `Setting`.
    """

    setting: str
    best: Row
    bare: Row | None
    clean_accuracy: tuple[int, int] | None
    same_as: str | None
    comparisons: Sequence[Comparison]
    useful: Sequence[str]
    tied: Sequence[Row]
    answer: str

    @property
    def beats_guessing(self) -> bool:
        """Whether the winner is better than an answer that does not depend on the image."""
        return bool(self.best["beats_guessing"])

    @property
    def one_sided(self) -> bool:
        """Whether over half of the images get the same answer, which is far too many."""
        return is_one_sided(self.best)

    @property
    def is_improvement(self) -> bool:
        """Whether the winner is of use, and better than the published configuration."""
        gains = [c.against for c in self.comparisons if c.verdict == "gain"]
        return self.beats_guessing and "published" in gains

    @property
    def was_found(self) -> bool:
        """Whether the winner is a point of the search, not a baseline."""
        return self.best["origin"] in SEARCHED


def is_one_sided(row: Row) -> bool:
    """Whether a variant gives over half of the images the same answer, far more than have it."""
    share, true = row["most_frequent_share"], row["most_frequent_true"]
    return bool(share > _HALF and share - true > _EXCESS)


def judge_all(run: Run) -> dict[str, Verdict]:
    """The verdicts on the settings of a run, by name; raises as `judge`."""
    verdicts = {setting.name: judge(setting) for setting in run.settings}
    return {name: verdict for name, verdict in verdicts.items() if verdict is not None}


def judge(setting: Setting) -> Verdict | None:
    """The verdict on a setting; None if no winner was certified.

    Raises:
        ValueError: if two variants were certified on different images.
    """
    rows = {row["variant"]: row for row in setting.summary}
    if "best" not in rows or "best" not in setting.certificates:
        return None
    best, certificates = rows["best"], setting.certificates
    others = [name for name in certificates if name != "best" and name in rows]
    if rows.get(PUBLISHED_BEST_SIGMA, {}).get("trial") == rows.get("published", {}).get("trial"):
        # The published values are best at their own sigma.
        others = [name for name in others if name != PUBLISHED_BEST_SIGMA]
    trial = best["trial"]
    same = [name for name in others if trial is not None and rows[name]["trial"] == trial]
    return Verdict(
        setting.name,
        best,
        rows.get("none"),
        setting.clean_accuracy,
        same[0] if same else None,
        [
            compare(certificates["best"], name, certificates[name], best["radii"])
            for name in others
            if name not in same
        ],
        [name for name in others if rows[name]["beats_guessing"]],
        _different([row for row in setting.confirmation if row["tied"]]),
        _class_name(setting, best["most_frequent"]),
    )


def _different(tied: Sequence[Row]) -> Sequence[Row]:
    """The trials, if they are of different origins or sigmas."""
    return tied if len({(row["origin"], row["sigma"]) for row in tied}) > 1 else ()


def _class_name(setting: Setting, label: int | None) -> str:
    names = {row["class"]: row["name"] for row in setting.classes}
    name = names.get(label, str(label))
    return f"class {name}" if name == str(label) else f"class {label} ({name})"
