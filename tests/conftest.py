"""How several processes share the suite."""

from pathlib import PurePath
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

# Files whose tests need the same finished run, which takes most of a minute.
REFERENCE = {
    *("test_run.py", "test_resume.py", "test_kill.py", "test_classifiers.py", "test_certify.py"),
}


def scope(nodeid: str) -> str:
    """Tests of one scope run in one process: those of a file, or all of the reference run."""
    file = PurePath(nodeid.partition("::")[0])
    return "" if file.parent.name == "tuning" and file.name in REFERENCE else str(file)


class ByFile(LoadScopeScheduling):
    """Gives each process a scope at a time."""

    def _split_scope(self, nodeid: str) -> str:
        return scope(nodeid)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest scope first, so that the others fill the time beside it."""
    items.sort(key=lambda item: scope(item.nodeid) != "")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    """Give the processes whole files."""
    return ByFile(config, log)
