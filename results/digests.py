"""Digests of a run's files, which its manifest holds from the end of the run on.

Much in a run folder can be recomputed from the counts of its votes, but not everything: that a
trial had a learning rate is only recorded. Digests show whether any of it has changed since.
"""

import hashlib
import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from results import files

FILES = "files"
"""The entry of the manifest that holds digests by file; that of the manifest is of the rest."""

# Of a setting; what else is there can be made again, or is not a result.
_PATTERNS = (
    *("*.parquet", files.INSIGHT, files.CURVES, files.VOTES),
    *(f"{files.LOGS}/*.tsv", f"{files.EXPORT}/*", f"{files.DENOISERS}/*"),
)


def file_digests(folder: Path, manifest: Mapping[str, Any]) -> dict[str, str]:
    """SHA-256 of each file of a run that is a result, by its path in `folder`.

    Raises:
        OSError: if a file cannot be read.
        sqlite3.Error: if `votes.db` is damaged.
    """
    settings = manifest.get("settings")
    settings = settings if isinstance(settings, dict) else {}
    found = {
        path for setting in settings for pattern in _PATTERNS
        for path in (folder / setting).glob(pattern) if path.is_file()
    }  # fmt: skip
    named = {folder / files.CONFIG, folder / files.SUMMARY, *found}
    digests = {str(path.relative_to(folder)): _digest(path) for path in sorted(named)}
    return digests | {files.MANIFEST: _digest_of_rest(manifest)}


def changed_files(folder: Path, manifest: Mapping[str, Any]) -> Iterator[str]:
    """What is not as it was at the end of the run, a line for each file."""
    recorded = manifest.get(FILES)
    if not isinstance(recorded, dict):
        yield f"{files.MANIFEST}: has no digests of {FILES}: the run has not ended"
        return
    try:
        found = file_digests(folder, manifest)
    except (OSError, sqlite3.Error) as error:
        yield f"files cannot be compared with their digests: {' '.join(str(error).split())}"
        return
    for name in sorted({*recorded, *found}):
        if change := _change(recorded.get(name), found.get(name)):
            yield f"{name}: {change}"


def changed_since(folder: Path, path: Path, manifest: Mapping[str, Any]) -> str:
    """How a file of a run is not as it was at the end of the run; empty if it is, or none was.

    Raises:
        OSError: if the file cannot be read.
    """
    recorded = manifest.get(FILES)
    if not isinstance(recorded, dict):
        return ""
    name = str(path.relative_to(folder))
    found: str | None = None
    if name == files.MANIFEST:
        found = _digest_of_rest(manifest)
    elif path.exists():
        found = _digest(path)
    return _change(recorded.get(name), found)


def _change(recorded: str | None, found: str | None) -> str:
    if recorded == found:
        return ""
    if found is None:
        return "is missing"
    return f"{'was not there when' if recorded is None else 'has changed since'} the run ended"


def _digest_of_rest(manifest: Mapping[str, Any]) -> str:
    rest = {name: value for name, value in manifest.items() if name != FILES}
    text = json.dumps(rest, sort_keys=True, ensure_ascii=False)
    # Damage can leave halves of surrogate pairs.
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def _digest(path: Path) -> str:
    if path.suffix != ".db":
        return hashlib.sha256(path.read_bytes()).hexdigest()
    # A copy of a database has the same rows, but not always the same bytes.
    digest = hashlib.sha256()
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as db:
        for row in db.execute("SELECT * FROM counts"):
            digest.update(repr(row).encode())
    return digest.hexdigest()
