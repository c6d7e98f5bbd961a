from pathlib import Path

import pytest

from tests.support.finished import write_finished


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_finished(tmp_path)
