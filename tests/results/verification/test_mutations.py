"""No change of anything in a run folder passes verification."""

from collections import Counter
from pathlib import Path
from random import Random

from results.verification import verify
from tests.support.mutations import Change, changeable, changed
from tests.support.sealing import sealed
from tuning.certification.replay import replay

CHANGES, SEALED_CHANGES = 500, 300
# What certificates and tables are recomputed from, and what is recomputed.
PROVED = ("config.yaml", "summary", "certificates", "front", "classes", "votes.db", ".tsv")


def only_recorded(change: Change) -> bool:
    """Whether nothing else in the folder follows from what was changed."""
    if change.file.endswith("votes.db"):
        # What the checksum of a row is of, whatever the votes were for.
        return change.field in ("seconds", "node")
    return change.field == "forward_pixels"


def test_no_change_of_anything_passes(run: Path) -> None:
    random, files = Random(0), changeable(run)
    passed, places = [], Counter[str]()
    for _ in range(CHANGES):
        with changed(run, random.choice(files), random) as change:
            places[change.file] += 1
            if not verify(run, replay)[1]:
                passed.append(change)
    assert not passed
    assert {run / place for place in places} == {*files}
    assert verify(run, replay) == (5 * 8, [])


def test_what_is_recomputed_is_not_believed_even_if_its_digest_is_changed_too(run: Path) -> None:
    random = Random(1)
    files = [path for path in changeable(run) if any(part in path.name for part in PROVED)]
    manifest = (run / "manifest.json").read_bytes()
    passed = []
    for _ in range(SEALED_CHANGES):
        with changed(run, random.choice(files), random) as change:
            if not verify(sealed(run), replay)[1]:
                passed.append(change)
        (run / "manifest.json").write_bytes(manifest)
    assert [change for change in passed if not only_recorded(change)] == []
