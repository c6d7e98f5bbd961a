"""Runs that somebody has changed, and who knows how that is noticed."""

import json
from pathlib import Path

from results.digests import FILES, file_digests


def sealed(run: Path) -> Path:
    """The run, with digests of its files as they are now, which then show no change."""
    path = run / "manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps({**manifest, FILES: file_digests(run, manifest)}))
    return run
