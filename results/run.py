"""A run folder, read back: configuration, manifest and tables, nothing else."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from results import files
from results.digests import FILES, changed_since
from results.insight import Insight
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
    variant_label,
    variant_place,
)
from results.store import StoreError, read_metadata, read_table

_OF_VARIANTS = (files.SUMMARY, files.CERTIFICATES, files.FRONT)
_MAIN = (files.CONFIG, files.MANIFEST, files.SUMMARY)
_FIXED_TRIAL_COLUMNS = frozenset(trials_schema({}).names)


@dataclass(frozen=True)
class Setting:
    """Tables of one setting; a table the run did not write is empty.

    `certificates` holds rows by variant, weakest baseline first; `metadata` belongs to the
    certificates (config hash, model hash, precision, device); `insight` is what
    `results.insight.Insight.of` reads. `clean_accuracy` says about how many labelled images the
    classifier itself was right, and of how many; None if that is not known.
    """

    name: str
    summary: Sequence[Row]
    trials: Sequence[Row]
    confirmation: Sequence[Row]
    baselines: Sequence[Row]
    classes: Sequence[Row]
    certificates: Mapping[str, Sequence[Row]]
    metadata: Mapping[str, str]
    insight: Mapping[str, Any]
    clean_accuracy: tuple[int, int] | None = None

    @property
    def labels(self) -> dict[str, str]:
        """The names for readers of the variants that are certified or in the summary."""
        # Of an interrupted run, certificates may be there without their row of the summary.
        labels = {name: name for name in self.certificates}
        for row in self.summary:
            labels[row["variant"]] = variant_label(row["variant"], row["origin"])
        return labels

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


def load_run(folder: Path, problems: list[str] | None = None, *, changed: bool = False) -> Run:
    """Read a run folder.

    With a list of `problems`, which is extended, what is missing is left out, and so is what is
    damaged or of a different run, with a line that names the file and says why; a file that the
    run has not written yet needs none. Unless `changed` allows it, that includes YAML and JSON that
    has changed since the end of the run: unlike tables, these have no checksums of their own.

    Raises:
        StoreError: if it is not a run folder. Without `problems` also if config.yaml, manifest.json
            or summary.parquet is missing or damaged, or any other table or insight.json is
            damaged, or a table is of a different run.
    """
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "no such run folder"
        raise StoreError(f"{folder}: {what}")
    if not any((folder / name).exists() for name in _MAIN):
        raise StoreError(f"{folder}: is not a run folder: it has no {', '.join(_MAIN)}")
    manifest = _attempt(_manifest(folder, changed), folder / files.MANIFEST, {}, problems)
    tables = _Tables(folder, manifest, problems, changed)
    summary = tables.rows(folder / files.SUMMARY, summary_schema(), required=True)
    names = dict.fromkeys(row["setting"] for row in summary)
    # A setting whose certification never ended is not in the summary, but has trials to report.
    searched = sorted(path.parent.name for path in folder.glob(f"*/{files.TRIALS}"))
    names.update(dict.fromkeys(searched))
    if problems is not None:
        names.update(dict.fromkeys(_begun(manifest)))
        problems += _missing(folder, manifest)
    return Run(
        folder,
        folder.resolve().name,
        tables.unchanged(_mapping, folder / files.CONFIG),
        manifest,
        [
            _load_setting(folder / name, [row for row in summary if row["setting"] == name], tables)
            for name in names
        ],
    )


def _manifest(folder: Path, changed: bool) -> Callable[[Path], dict[str, Any]]:
    def read(path: Path) -> dict[str, Any]:
        manifest = _mapping(path)
        if not changed:
            _check_unchanged(folder, path, manifest)
        return manifest

    return read


def _check_unchanged(folder: Path, path: Path, manifest: Mapping[str, Any]) -> None:
    if change := changed_since(folder, path, manifest):
        raise StoreError(f"{path}: {change}; put it back as it was")


def _missing(folder: Path, manifest: Mapping[str, Any]) -> list[str]:
    """What was there when the run ended and would be read here, a line for each file."""
    recorded = manifest.get(FILES)
    names = recorded if isinstance(recorded, dict) else {}
    read = {*_MAIN, *files.TABLES, files.INSIGHT}
    return [
        f"{folder / name}: is missing; put it back"
        for name in names
        if Path(name).name in read and not (folder / name).exists()
    ]


def _begun(manifest: Mapping[str, Any]) -> list[str]:
    """The settings that the manifest has, which may not have a table yet."""
    settings = manifest.get("settings")
    names = settings if isinstance(settings, dict) else {}
    return [name for name in names if Path(name).name == name != ""]


def _attempt(read: Callable[[Path], Any], path: Path, otherwise: Any, problems: Any) -> Any:
    """What `read` returns; with a list of problems, `otherwise` if it cannot."""
    if problems is not None and not path.exists():
        return otherwise
    try:
        return read(path)
    except StoreError as error:
        if problems is None:
            raise
        problems.append(str(error))
        return otherwise


class _Tables:
    """Reads the tables of one run; `problems` is as in `load_run`."""

    def __init__(
        self, folder: Path, manifest: Mapping[str, Any], problems: list[str] | None, changed: bool
    ) -> None:
        self.manifest, self.problems = manifest, problems
        self._folder, self._changed = folder, changed
        # A run that has just started has no manifest, but may have tables of an earlier start.
        self._of_any_run = problems is not None and not (folder / files.MANIFEST).exists()

    def rows(self, path: Path, schema: Any, *, required: bool = False) -> list[dict[str, Any]]:
        """The rows of a table; none if it does not exist, unless it is `required`."""
        if not required and not path.exists():
            return []

        def read(path: Path) -> list[dict[str, Any]]:
            rows = read_table(path, schema)
            _check_names(path, rows)
            self._check_run(path)
            return rows

        found: list[dict[str, Any]] = _attempt(read, path, [], self.problems)
        return found

    def unchanged(self, read: Callable[[Path], Any], path: Path) -> Any:
        """What `read` returns of a file as it was at the end of the run."""

        def checked(path: Path) -> Any:
            found = read(path)
            if not self._changed:
                _check_unchanged(self._folder, path, self.manifest)
            return found

        return _attempt(checked, path, {}, self.problems)

    def _check_run(self, path: Path) -> None:
        """Refuse tables of different runs side by side, such as one copied from elsewhere."""
        found, run_id = read_metadata(path).get("run_id"), self.manifest.get("run_id")
        if found != run_id and not self._of_any_run:
            raise StoreError(
                f"{path}: is of the run {found}, but {files.MANIFEST} of {run_id}; put back the "
                "table of this run, or certify it again"
            )


def _load_setting(folder: Path, summary: Sequence[Row], tables: _Tables) -> Setting:
    path, insight = folder / files.CERTIFICATES, folder / files.INSIGHT
    rows = tables.rows(path, CERTIFICATES)
    beside = tables.rows(folder / files.FRONT, CERTIFICATES)
    swept = [row for row in beside if row["variant"] == PUBLISHED_BEST_SIGMA]
    groups = {
        name: [row for row in [*rows, *swept] if row["variant"] == name] for name in CERTIFIED
    }
    return Setting(
        folder.name,
        sorted(summary, key=lambda row: variant_place(row["variant"])),
        sorted(tables.rows(folder / files.TRIALS, trials_schema({})), key=_number),
        tables.rows(folder / files.CONFIRMATION, CONFIRMATION),
        tables.rows(folder / files.BASELINES, BASELINES),
        tables.rows(folder / files.CLASSES, classes_schema()),
        {name: group for name, group in groups.items() if group},
        read_metadata(path) if rows else {},
        tables.unchanged(_insight, insight) if insight.exists() else {},
        _clean_accuracy(tables.manifest, folder.name),
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


def _check_names(path: Path, rows: Sequence[Row]) -> None:
    """Refuse variants, and origins in the summary, that this version does not know."""
    found = {row["variant"] for row in rows if path.name in _OF_VARIANTS} - set(CERTIFIED)
    unknown = sorted(name for name in found if front_number(name) is None)
    if unknown:
        raise StoreError(f"{path}: unknown variants {unknown}, expected {list(VARIANTS)}")
    if path.name == files.SUMMARY and (others := {row["origin"] for row in rows} - set(ORIGINS)):
        raise StoreError(f"{path}: unknown origins {sorted(others)}")


def _insight(path: Path) -> dict[str, Any]:
    content = _mapping(path)
    try:
        Insight.of(content)
    except ValueError as error:
        raise StoreError(f"{path}: {error}") from error
    return content


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
