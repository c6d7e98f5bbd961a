import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version

import pytest

from tests.support.runs import free_port
from tuning.cluster.address import check_dashboard, dashboard_address
from tuning.errors import ConfigError


@contextmanager
def dashboard(ray_version: str = version("ray"), token: str | None = None) -> Iterator[str]:
    """A server that answers what Ray's dashboard answers first."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            given = self.headers.get("Authorization")
            refused = 401 if given is None else 403
            self.send_response(200 if token is None or given == f"Bearer {token}" else refused)
            self.end_headers()
            self.wfile.write(json.dumps({"ray_version": ray_version}).encode())

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    # Set first, so that what the code under test sets is undone as well.
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.setenv(name, "")


def test_a_dashboard_is_told_from_a_host_of_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "http://head:8265")
    assert dashboard_address("auto") == "http://head:8265"
    assert dashboard_address("https://head") == "https://head"
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    assert dashboard_address("auto") is None
    assert dashboard_address("head:6379") is None
    assert dashboard_address(None) is None


def test_the_token_is_used_where_one_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    with dashboard() as address:
        check_dashboard(address)
    assert os.environ["RAY_AUTH_MODE"] == ""
    monkeypatch.setenv("RAY_AUTH_TOKEN", "right")
    with dashboard(token="right") as address:
        check_dashboard(address)
    assert os.environ["RAY_AUTH_MODE"] == "token"


def test_a_wrong_token_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "wrong")
    with (
        dashboard(token="right") as address,
        pytest.raises(ConfigError, match="refuses the token; set RAY_AUTH_TOKEN"),
    ):
        check_dashboard(address)


def test_another_version_of_ray_is_refused() -> None:
    with (
        dashboard("2.9.0") as address,
        pytest.raises(ConfigError, match=rf"2\.9\.0, but this machine has {version('ray')}"),
    ):
        check_dashboard(address)


def test_what_is_no_dashboard_is_refused() -> None:
    with pytest.raises(ConfigError, match="no Ray dashboard answers at http://127"):
        check_dashboard(f"http://127.0.0.1:{free_port()}")
