"""A run, and its report."""

from pathlib import Path

import pytest

from results.report import build_report
from tests.support.invented import write_run

ERROR = "<script>alert(1)</script> & loss\nis nan"


def built(run: Path) -> str:
    path, _ = build_report(run)
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(
        tmp_path_factory.mktemp("runs") / "demo", ("digits-10shot", "digits-5shot"), ERROR
    )


@pytest.fixture(scope="module")
def html(run: Path) -> str:
    return built(run)
