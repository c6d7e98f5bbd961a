"""The published data sets behind a web server of the test's own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.publisher import LOADERS, Published, Server, publish, serve


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    (tmp_path / "web").mkdir()
    with serve(tmp_path / "web") as running:
        yield running


@pytest.fixture(params=LOADERS)
def published(
    request: pytest.FixtureRequest, server: Server, monkeypatch: pytest.MonkeyPatch
) -> Published:
    return publish(request.param, server.folder, server.url, monkeypatch)


@pytest.fixture
def mnist(server: Server, monkeypatch: pytest.MonkeyPatch) -> Published:
    return publish("mnist", server.folder, server.url, monkeypatch)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"
