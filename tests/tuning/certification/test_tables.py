from pathlib import Path

import pytest

from results.schema import CERTIFICATES
from results.store import read_cohen_tsv, read_table
from trainables.smoothing.certify import Certificate
from tuning.certification.tables import Certified, write_certificates

METADATA = {"precision": "float32", "device": "cpu"}


def certified(index: int, radius: float) -> Certified:
    predicted = 1 if radius else -1
    certificate = Certificate(predicted, radius, 90, 100, 10, 0.8, 0.25, 0.001, "fixed", 110)
    return Certified(index, 1, certificate, 0.5)


def test_a_front_that_became_shorter_leaves_no_log_behind(tmp_path: Path) -> None:
    best = [certified(3, 0.0), certified(7, 0.25)]
    rows = write_certificates(
        tmp_path, {"best": best, "front-1": best, "front-2": best[:1]}, METADATA
    )
    assert list(rows) == ["best", "front-1", "front-2"]
    assert {row["variant"] for row in read_table(tmp_path / "front.parquet", CERTIFICATES)} == {
        "front-1",
        "front-2",
    }
    write_certificates(tmp_path, {"best": best, "front-1": best}, METADATA)
    logs = sorted(path.stem for path in (tmp_path / "certificates").iterdir())
    assert logs == ["best", "front-1"]
    (abstained, kept) = read_table(tmp_path / "certificates.parquet", CERTIFICATES)
    assert (abstained["image_index"], abstained["predicted"], abstained["radius"]) == (3, -1, 0.0)
    assert (kept["image_index"], kept["radius"], kept["votes"]) == (7, 0.25, 110)
    assert (kept["precision"], kept["device"]) == ("float32", "cpu")
    log = read_cohen_tsv(tmp_path / "certificates" / "best.tsv")
    assert [(line.idx, line.radius) for line in log] == [(3, 0.0), (7, pytest.approx(0.25))]
