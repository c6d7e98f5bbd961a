"""A run folder, read back: configuration, manifest and tables, nothing else."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from results import files
from results.schema import (
    BASELINES,
    CERTIFICATES,
    CERTIFIED,
    CONFIRMATION,
    ORIGINS,
    PUBLISHED_BEST_SIGMA,
    VARIANTS,
    Row,
    classes_schema,
    front_number,
    summary_schema,
    trials_schema,
    variant_place,
)
from results.store import StoreError, read_metadata, read_table

_FIXED_TRIAL_COLUMNS = frozenset(trials_schema({}).names)


@dataclass(frozen=True)
class Setting:
    """Tables of one setting; a table the run did not write is empty.

    `certificates` holds rows by variant, weakest baseline first; `metadata` belongs to the
    certificates (config hash, model hash, precision, device); `insight` holds Plotly figures by
    title. `clean_accuracy` says about how many labelled images the classifier itself was right, and
    of how many; None if that is not known.
    """

    name: str
    summary: Sequence[Row]
    trials: Sequence[Row]
    confirmation: Sequence[Row]
    baselines: Sequence[Row]
    classes: Sequence[Row]
    certificates: Mapping[str, Sequence[Row]]
    metadata: Mapping[str, str]
    insight: Mapping[str, Mapping[str, Any]]
    clean_accuracy: tuple[int, int] | None = None

    @property
    def hyperparameters(self) -> list[str]:
        """Names of the hyperparameter columns of `trials`, in their order."""
        first = self.trials[0] if self.trials else {}
        return [name for name in first if name not in _FIXED_TRIAL_COLUMNS]


@dataclass(frozen=True)
class Run:
    """A run folder: where it is, its name, resolved configuration, manifest and settings."""

    folder: Path
    name: str
    config: Mapping[str, Any]
    manifest: Mapping[str, Any]
    settings: Sequence[Setting]


def load_run(folder: Path) -> Run:
    """Read a run folder.

    Raises:
        StoreError: if config.yaml, manifest.json or summary.parquet is missing or damaged, or any
            other table or insight.json is damaged, or a table is of a different run.
    """
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "no such run folder"
        raise StoreError(f"{folder}: {what}")
    summary = _known_variants(folder / files.SUMMARY, summary_schema())
    manifest = _mapping(folder / files.MANIFEST)
    if unknown := sorted({row["origin"] for row in summary} - set(ORIGINS)):
        raise StoreError(f"{folder / files.SUMMARY}: unknown origins {unknown}")
    names = dict.fromkeys(row["setting"] for row in summary)
    # A setting whose certification never ended is not in the summary, but has trials to report.
    searched = sorted(path.parent.name for path in folder.glob(f"*/{files.TRIALS}"))
    names.update(dict.fromkeys(searched))
    _check_run(folder, names, manifest)
    return Run(
        folder,
        folder.resolve().name,
        _mapping(folder / files.CONFIG),
        manifest,
        [
            _load_setting(
                folder / name, [row for row in summary if row["setting"] == name], manifest
            )
            for name in names
        ],
    )


def _check_run(folder: Path, settings: Iterable[str], manifest: Mapping[str, Any]) -> None:
    """Refuse tables of different runs side by side, such as one that was copied from elsewhere."""
    run_id = manifest.get("run_id")
    of_settings = [folder / setting / name for setting in settings for name in files.TABLES]
    for path in [folder / files.SUMMARY, *(path for path in of_settings if path.exists())]:
        if (found := read_metadata(path).get("run_id")) != run_id:
            raise StoreError(
                f"{path}: is of the run {found}, but {files.MANIFEST} of {run_id}; put back the "
                "table of this run, or certify it again"
            )


def _load_setting(folder: Path, summary: Sequence[Row], manifest: Mapping[str, Any]) -> Setting:
    path = folder / files.CERTIFICATES
    rows = _known_variants(path, CERTIFICATES) if path.exists() else []
    beside = _optional(folder / files.FRONT, CERTIFICATES)
    swept = [row for row in beside if row["variant"] == PUBLISHED_BEST_SIGMA]
    groups = {
        name: [row for row in [*rows, *swept] if row["variant"] == name] for name in CERTIFIED
    }
    return Setting(
        folder.name,
        sorted(summary, key=lambda row: variant_place(row["variant"])),
        sorted(_optional(folder / files.TRIALS, trials_schema({})), key=_number),
        _optional(folder / files.CONFIRMATION, CONFIRMATION),
        _optional(folder / files.BASELINES, BASELINES),
        _optional(folder / files.CLASSES, classes_schema()),
        {name: group for name, group in groups.items() if group},
        read_metadata(path) if rows else {},
        _figures(folder / files.INSIGHT),
        _clean_accuracy(manifest, folder.name),
    )


def _clean_accuracy(manifest: Mapping[str, Any], setting: str) -> tuple[int, int] | None:
    try:
        found = manifest["settings"][setting]["clean_accuracy"]
        right, images = int(found["right"]), int(found["images"])
    except (KeyError, TypeError, ValueError):
        return None
    return (right, images) if 0 <= right <= images and images else None


def _number(row: Row) -> int:
    return int(row["number"])


def _optional(path: Path, schema: Any) -> list[dict[str, Any]]:
    return read_table(path, schema) if path.exists() else []


def _known_variants(path: Path, schema: Any) -> list[dict[str, Any]]:
    rows = read_table(path, schema)
    found = {row["variant"] for row in rows} - set(CERTIFIED)
    unknown = sorted(name for name in found if front_number(name) is None)
    if unknown:
        raise StoreError(f"{path}: unknown variants {unknown}, expected {list(VARIANTS)}")
    return rows


def _figures(path: Path) -> dict[str, dict[str, Any]]:
    figures = _mapping(path) if path.exists() else {}
    for title, figure in figures.items():
        parts = figure if isinstance(figure, dict) else {}
        if not (isinstance(parts.get("data"), list) and isinstance(parts.get("layout"), dict)):
            raise StoreError(f"{path}: {title} is not a Plotly figure")
    return figures


def _mapping(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        value = _json(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise StoreError(f"{path}: cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(value, dict):
        raise StoreError(f"{path}: is not a mapping of names to values")
    return value


def _json(text: str) -> Any:
    def refuse(constant: str) -> None:
        # Python would accept NaN; a browser would not.
        raise ValueError(f"{constant} is not valid JSON")

    return json.loads(text, parse_constant=refuse)
