"""The published values at their best sigma: certified beside the variants, and compared with."""

from pathlib import Path

import pytest

from results.run import Setting, load_run
from results.schema import CERTIFICATES, PUBLISHED_BEST_SIGMA
from results.sentences import details
from results.store import write_cohen_tsv, write_table
from results.summary import write_summary
from results.terminal import summary_tables
from results.verdict import judge
from tests.support.invented import certificate_rows, write_run


def swept(folder: Path, trial: int) -> Setting:
    """The setting of a run with that variant, which has the published certificates."""
    write_run(folder)
    (before,) = load_run(folder).settings
    rows = [
        row | {"variant": PUBLISHED_BEST_SIGMA, "sigma": 0.25}
        for row in certificate_rows("published")
    ]
    write_table(folder / before.name / "front.parquet", rows, CERTIFICATES)
    write_cohen_tsv(folder / before.name / "certificates" / f"{PUBLISHED_BEST_SIGMA}.tsv", rows)
    (published,) = [row for row in before.summary if row["variant"] == "published"]
    changed = {"variant": PUBLISHED_BEST_SIGMA, "trial": trial, "origin": "published_sigma"}
    write_summary(folder / "summary.parquet", [*before.summary, {**published, **changed}])
    (setting,) = load_run(folder).settings
    return setting


def test_it_stands_behind_published(tmp_path: Path) -> None:
    setting = swept(tmp_path, trial=3)
    expected = ["none", "label_consistency", "published", PUBLISHED_BEST_SIGMA, "best"]
    assert [row["variant"] for row in setting.summary] == list(setting.certificates) == expected
    assert summary_tables(setting.summary, {})


@pytest.mark.parametrize(("trial", "compared"), [(3, True), (0, False)])
def test_the_winner_is_compared_with_it_unless_it_is_published_as_it_is(
    tmp_path: Path, trial: int, compared: bool
) -> None:
    verdict = judge(swept(tmp_path, trial))
    assert verdict is not None
    assert (PUBLISHED_BEST_SIGMA in [c.against for c in verdict.comparisons]) == compared
    assert ("as published at its best sigma" in " ".join(details(verdict))) == compared
