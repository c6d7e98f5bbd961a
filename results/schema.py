"""Schemas of every table in a run folder, with the unit and meaning of each column."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

SCHEMA_VERSION = "3"

Row = Mapping[str, Any]
"""One row of a table: column name to Python value."""

VARIANTS = ("none", "label_consistency", "published", "best")
"""What is certified, by the name in tables and files; weakest baseline first.

Beside these, the published values are certified at their best sigma, and a Pareto search adds the
members of its front, `front-1` and so on, the most accurate first.
"""

PUBLISHED_BEST_SIGMA = "published_best_sigma"
"""The published values at that sigma of the sweep that is best on the tuning images."""

CERTIFIED = (*VARIANTS[:3], PUBLISHED_BEST_SIGMA, VARIANTS[3])
"""What every run certifies, in the order of tables."""

ORIGINS: Mapping[str, str] = {
    "none": "none",
    "label_consistency": "smoothing",
    "mse": "MSE",
    "published": "published",
    "published_sigma": "published",
    "start": "start",
    "transferred": "transfer",
    "search": "tuned",
    "file": "given",
}
"""Where the hyperparameters of what is certified come from, each with a word for labels.

`none` is the classifier without a denoiser, `published_sigma` the published values at a different
sigma, `file` a denoiser that was passed to be certified; the others are origins of trials.
"""

STATES = ("complete", "pruned", "failed")
"""How a trial can have ended."""

SEARCHED = frozenset({"start", "transferred", "search"})
"""Origins of the trials of the search itself; the other trials are there for comparison."""

# L2 radii, in pixel units on the [0, 1] scale, that have columns whatever radii are named.
_ALWAYS = (0.0, 0.25, 0.5, 0.75, 1.0)
_RIGHT, _WRONG, _JOINT = "certified_accuracy_", "certified_wrong_", "joint_accuracy_"
_NONE = "1"
_PIXELS = "pixels on [0, 1], L2"


def front_number(variant: str) -> int | None:
    """The place of a variant on the Pareto front, from 1; None if it is not on the front."""
    match = re.fullmatch(r"front-([1-9]\d*)", variant)
    return int(match.group(1)) if match else None


def variant_place(variant: str) -> int:
    """The place of a variant in tables.

    Raises:
        ValueError: if it is unknown.
    """
    number = front_number(variant)
    # The index of a list, unlike that of a tuple, names what is not in it.
    return list(CERTIFIED).index(variant) if number is None else len(CERTIFIED) + number


def variant_label(variant: str, origin: str) -> str:
    """The name of a variant for readers, which says where its hyperparameters come from."""
    number, word = front_number(variant), ORIGINS[origin]
    if number is not None:
        return f"Front {number}: {word}"
    if variant == "best" and origin in SEARCHED:
        return f"DE-CROP, {word}"
    labels = {
        "none": "No denoiser",
        "label_consistency": "Denoised smoothing",
        "published": "DE-CROP, published",
        PUBLISHED_BEST_SIGMA: "Published, best sigma",
        "best": f"Best: {word}",
    }
    return labels[variant]


def accuracy_column(radius: float) -> str:
    """The column of the share of images that are certified right at `radius`."""
    return _RIGHT + _suffix(radius)


def wrong_column(radius: float) -> str:
    """The column of the share of images that are certified at `radius`, but as a wrong class."""
    return _WRONG + _suffix(radius)


def joint_column(radius: float) -> str:
    """The column of the share certified right at `radius` by certificates that all hold at once."""
    return _JOINT + _suffix(radius)


def tabulated(radii: Iterable[float]) -> list[float]:
    """The radii that have columns in the tables if `radii` are named; ascending."""
    return sorted({*_ALWAYS, *map(float, radii)})


def _suffix(radius: float) -> str:
    return "0" if radius == 0 else str(float(radius)).replace(".", "_")


def _field(
    name: str, kind: pa.DataType, unit: str, description: str, nullable: bool = False
) -> pa.Field:
    return pa.field(name, kind, nullable, {"unit": unit, "description": description})


def _schema(*fields: pa.Field) -> pa.Schema:
    return pa.schema(fields, {"schema_version": SCHEMA_VERSION})


def trials_schema(hyperparameters: Mapping[str, pa.DataType]) -> pa.Schema:
    """Schema of trials.parquet; `hyperparameters` become nullable columns, in the given order.

    Raises:
        ValueError: if a hyperparameter has the name of one of the fixed columns.
    """
    before = [
        _field("number", pa.int32(), _NONE, "trial number in the study"),
        _field("root", pa.int32(), _NONE, "number of the point; the same for each attempt at it"),
        _field("origin", pa.string(), _NONE, "published, a baseline, start, transferred or search"),
        _field("state", pa.string(), _NONE, "complete, pruned or failed"),
    ]
    after = [
        _field("objective", pa.float64(), "objective", "score on the tuning images", True),
        _field("accuracy", pa.float64(), "share", "clean accuracy on the tuning images", True),
        _field("epochs", pa.int32(), "epochs", "epochs trained", True),
        _field("steps", pa.int64(), "steps", "training steps: batches in those epochs", True),
        _field("seconds", pa.float64(), "s", "wall-clock time", True),
        _field("seed", pa.int64(), _NONE, "seed of training and scoring", True),
        _field("node", pa.string(), _NONE, "host that ran the trial", True),
        _field("error", pa.string(), _NONE, "why the trial failed, or its worker", True),
        _field("restarts", pa.int32(), _NONE, "times it went on in another worker", True),
    ]
    clash = sorted({field.name for field in before + after} & set(hyperparameters))
    if clash:
        raise ValueError(
            f"hyperparameters {clash} have names of fixed columns of the trials table; rename them"
        )
    middle = [
        _field(name, kind, _NONE, "hyperparameter", True) for name, kind in hyperparameters.items()
    ]
    return _schema(*before, *middle, *after)


_VARIANT = (
    "none, label_consistency, published or best; published_best_sigma; or front-1 ... of a Pareto "
    "search"
)

CERTIFICATES: pa.Schema = _schema(
    _field("variant", pa.string(), _NONE, _VARIANT),
    _field("image_index", pa.int32(), _NONE, "position in the test set"),
    _field("label", pa.int16(), "class", "true class"),
    _field("predicted", pa.int16(), "class", "predicted class; -1 abstains"),
    _field("radius", pa.float64(), _PIXELS, "certified radius; 0 when abstaining"),
    _field("votes_top", pa.int64(), "votes", "votes of n for the class picked by n0"),
    _field("n", pa.int64(), "votes", "votes that bound the probability of the class"),
    _field("n0", pa.int64(), "votes", "votes that pick the class"),
    _field("p_lower", pa.float64(), "probability", "lower bound of the class picked by n0"),
    _field("sigma", pa.float64(), _PIXELS, "standard deviation of the noise per pixel"),
    _field("alpha", pa.float64(), "probability", "chance that this one certificate is wrong"),
    _field("seconds", pa.float64(), "s", "compute time of this certificate"),
    _field("procedure", pa.string(), _NONE, "fixed, tolerance or adaptive"),
    _field("votes", pa.int64(), "votes", "all votes cast, n0 included"),
    _field("votes_selected", pa.int64(), "votes", "votes of n0 for the class they picked"),
    _field("votes_selected_runner_up", pa.int64(), "votes", "most votes of n0 for any other class"),
    _field("runner_up", pa.int16(), "class", "class with the most votes of n beside that one"),
    _field("votes_runner_up", pa.int64(), "votes", "votes of n for the runner-up"),
    _field("p_upper", pa.float64(), "probability", "upper bound of every class but the one picked"),
    _field("joint_radius", pa.float64(), _PIXELS, "radius at alpha / images; null abstains", True),
    _field("precision", pa.string(), _NONE, "in which the model voted: float32 or bfloat16"),
    _field("device", pa.string(), _NONE, "on which it voted: cpu or cuda"),
)

CONFIRMATION: pa.Schema = _schema(
    _field("number", pa.int32(), _NONE, "trial that is confirmed"),
    _field("root", pa.int32(), _NONE, "number of the point"),
    _field("origin", pa.string(), _NONE, "published, a baseline, start, transferred or search"),
    _field("variant", pa.string(), _NONE, "what the trial is certified as, joined by commas"),
    _field("sigma", pa.float64(), _PIXELS, "standard deviation of the noise per pixel"),
    _field("search_objective", pa.float64(), "objective", "score during the search", True),
    _field("confirmed_objective", pa.float64(), "objective", "score on fresh seeds"),
    _field("standard_error", pa.float64(), "objective", "of the confirmed score", True),
    _field("confirmed_accuracy", pa.float64(), "share", "clean accuracy on fresh seeds"),
    _field("unseen_objective", pa.float64(), "objective", "score on new images", True),
    _field("optimism_gap", pa.float64(), "objective", "search score minus that", True),
    _field("votes", pa.int64(), "votes", "votes per image"),
    _field("folds", pa.int32(), "folds", "fresh splits of the shots, each with its own training"),
    _field("images", pa.int32(), "images", "tuning images scored, over all folds"),
    _field("tied", pa.bool_(), _NONE, "as good as the highest: within one standard error"),
    _field("selected", pa.bool_(), _NONE, "certified in the end"),
)

BASELINES: pa.Schema = _schema(
    _field("sigma", pa.float64(), _PIXELS, "standard deviation of the noise per pixel"),
    _field("objective", pa.float64(), "objective", "of the classifier without a denoiser"),
    _field("accuracy", pa.float64(), "share", "its clean accuracy when smoothed"),
    _field("votes", pa.int64(), "votes", "votes per image"),
    _field("images", pa.int32(), "images", "tuning images scored"),
    _field("selected", pa.bool_(), _NONE, "certified in the end"),
)


def _at_radii(radii: Iterable[float]) -> list[pa.Field]:
    """Certified right and wrong at each radius; null in settings that do not name a further one."""
    columns = (
        (accuracy_column, "images correct with a radius"),
        (wrong_column, "images given a wrong class with a radius"),
        (joint_column, "images correct with a joint radius"),
    )
    return [
        _field(
            column(at),
            pa.float64(),
            "share",
            f"{what} of at least {at:g}",
            nullable=at not in _ALWAYS,
        )
        for column, what in columns
        for at in tabulated(radii)
    ]


def summary_schema(radii: Iterable[float] = ()) -> pa.Schema:
    """Schema of summary.parquet with columns for `radii`, beside those that are always there."""
    return _schema(
        _field("setting", pa.string(), _NONE, "dataset and shots, for example digits-10shot"),
        _field("variant", pa.string(), _NONE, _VARIANT),
        _field("origin", pa.string(), _NONE, f"of its hyperparameters: {', '.join(ORIGINS)}"),
        _field("trial", pa.int32(), _NONE, "trial certified; null without one", True),
        _field("sigma", pa.float64(), _PIXELS, "standard deviation of the noise per pixel"),
        _field("tuning_objective", pa.float64(), "objective", "score on the tuning images", True),
        _field(
            "tuning_accuracy", pa.float64(), "share", "clean accuracy on the tuning images", True
        ),
        _field("images", pa.int32(), "images", "test images certified"),
        _field("n", pa.int64(), "votes", "most votes that bound one image's probability"),
        _field("n0", pa.int64(), "votes", "votes that pick the class"),
        _field("alpha", pa.float64(), "probability", "chance that one certificate is wrong"),
        _field("radii", pa.list_(pa.float64()), _PIXELS, "the radii of the score"),
        _field("score", pa.float64(), "share", "certified right less wrong, so that guessing is 0"),
        _field("score_low", pa.float64(), "share", "lower end of its 95 % interval over images"),
        _field("score_high", pa.float64(), "share", "upper end of its 95 % interval over images"),
        _field("beats_guessing", pa.bool_(), _NONE, "whether that interval is above 0"),
        _field("most_frequent", pa.int16(), "class", "class answered most often", True),
        _field("most_frequent_share", pa.float64(), "share", "images with that answer"),
        _field("most_frequent_true", pa.float64(), "share", "images that are of that class"),
        *_at_radii(radii),
        _field("acr", pa.float64(), _PIXELS, "average certified radius; wrong or abstaining is 0"),
        _field("acr_low", pa.float64(), _PIXELS, "lower end of its 95 % interval over images"),
        _field("acr_high", pa.float64(), _PIXELS, "upper end of its 95 % interval over images"),
        _field("joint_acr", pa.float64(), _PIXELS, "ACR of joint radii"),
        _field("abstained", pa.float64(), "share", "images on which the classifier abstains"),
        _field("seconds", pa.float64(), "s", "compute time of all certificates, summed"),
    )


def classes_schema(radii: Iterable[float] = ()) -> pa.Schema:
    """Schema of classes.parquet: the summary's columns at `radii`, for the images of each class."""
    return _schema(
        _field("variant", pa.string(), _NONE, _VARIANT),
        _field("class", pa.int16(), "class", "true class"),
        _field("name", pa.string(), _NONE, "its name in the data set"),
        _field("images", pa.int32(), "images", "test images of this class"),
        _field("answers", pa.int32(), "images", "test images that were given this class"),
        *_at_radii(radii),
    )
