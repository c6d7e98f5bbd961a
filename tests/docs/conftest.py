"""The desk at which the commands and the code of the documentation are tried out."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.desk import Desk, desk
from tests.support.runs import Finished


@pytest.fixture(scope="module")
def here(
    reference_run: Finished, trained_classifier: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("desk")
    with desk(folder, reference_run, trained_classifier) as made, pytest.MonkeyPatch.context() as p:
        p.chdir(folder)
        # The classifier of digits is trained already.
        p.setenv("XDG_CACHE_HOME", str(trained_classifier.parents[1]))
        for name in ("RAY_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
            p.delenv(name, raising=False)
        yield made
