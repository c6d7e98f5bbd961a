from pathlib import Path

import pytest

from results.schema import CERTIFICATES, classes_schema
from results.store import read_cohen_tsv, read_table
from trainables.data.datasets import load_dataset
from trainables.data.splits import held_out_images
from trainables.smoothing.certify import Certificate
from tuning.certification.subjects import Model, Subject
from tuning.certification.tables import Certified, summary_rows, write_certificates

METADATA = {"precision": "float32", "device": "cpu"}


def certified(index: int, radius: float) -> Certified:
    predicted = 1 if radius else -1
    certificate = Certificate(
        predicted, radius, 90, 100, 10, 0.8, 0.25, 0.001, "fixed", 110, 2, 5, 0.2, 10, 0, None
    )
    return Certified(index, 1, certificate, 0.5)


def subject(*variants: str) -> Subject:
    digits = load_dataset("digits")
    models = {name: Model(None, 0.25, "search", 9, 0.4, 0.9) for name in variants}
    test = held_out_images(digits, 2)
    return Subject("digits-10shot", digits, test, models, pixel_steps=16, radii=(0.5, 0.625))


def test_the_summary_says_where_a_model_comes_from_and_classes_are_named(tmp_path: Path) -> None:
    best = [certified(3, 0.0), certified(7, 0.6)]
    rows = write_certificates(tmp_path, subject("best"), {"best": best}, METADATA)
    (row,) = summary_rows(subject("best"), rows)
    assert (row["origin"], row["trial"], row["radii"]) == ("search", 9, [0.5, 0.625])
    (one,) = read_table(tmp_path / "classes.parquet", classes_schema())
    assert (one["class"], one["name"], one["images"], one["answers"]) == (1, "1", 2, 1)
    assert (one["certified_accuracy_0_5"], one["certified_accuracy_0_75"]) == (0.5, 0.0)
    assert row["certified_accuracy_0_625"] == one["certified_accuracy_0_625"] == 0.0


def test_a_front_that_became_shorter_leaves_no_log_behind(tmp_path: Path) -> None:
    best = [certified(3, 0.0), certified(7, 0.25)]
    front = {"best": best, "front-1": best, "front-2": best[:1]}
    rows = write_certificates(tmp_path, subject(*front), front, METADATA)
    assert list(rows) == ["best", "front-1", "front-2"]
    assert {row["variant"] for row in read_table(tmp_path / "front.parquet", CERTIFICATES)} == {
        "front-1",
        "front-2",
    }
    del front["front-2"]
    write_certificates(tmp_path, subject(*front), front, METADATA)
    logs = sorted(path.stem for path in (tmp_path / "certificates").iterdir())
    assert logs == ["best", "front-1"]
    (abstained, kept) = read_table(tmp_path / "certificates.parquet", CERTIFICATES)
    assert (abstained["image_index"], abstained["predicted"], abstained["radius"]) == (3, -1, 0.0)
    assert (kept["image_index"], kept["radius"], kept["votes"]) == (7, 0.25, 110)
    assert (kept["precision"], kept["device"]) == ("float32", "cpu")
    log = read_cohen_tsv(tmp_path / "certificates" / "best.tsv")
    assert [(line.idx, line.radius) for line in log] == [(3, 0.0), (7, pytest.approx(0.25))]
