"""What servers log of requests, and what they keep to themselves."""

import http.client
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any

import pytest
import torch
from torch import nn

from tests.support.answering import IMAGES, Failing, Linear, exchange, question, serving
from trainables.black_box.endpoint import HttpClassifier
from trainables.black_box.exchange import TOKEN_VARIABLE
from trainables.black_box.request_log import logging_requests

torch.set_num_threads(1)
pytestmark = pytest.mark.usefixtures("direct")
SECRET = "s3cr3t-t0k3n"


@contextmanager
def connected(classifier: nn.Module | None = None) -> Iterator[http.client.HTTPConnection]:
    """A connection to a server that logs."""
    with logging_requests(), serving(classifier or Linear().eval()) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=300)
        yield connection
        connection.close()


def logged(capfd: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capfd.readouterr().err.splitlines()]


def test_each_request_is_a_line(capfd: pytest.CaptureFixture[str]) -> None:
    body = json.dumps(question()).encode()
    with connected() as connection:
        assert exchange(connection, "GET")[0] == 200
        _, answer = exchange(connection, body=body)
        assert exchange(connection, body=b"no JSON", path="/?token=x")[0] == 400
        assert exchange(connection, "DELETE")[0] == 405
    described, answered, bad, deleted = logged(capfd)
    assert (described["method"], described["path"], described["status"]) == ("GET", "/", 200)
    assert (described["images"], described["received_bytes"]) == (0, 0)
    assert (answered["images"], answered["received_bytes"]) == (len(IMAGES), len(body))
    assert answered["sent_bytes"] == len(json.dumps(answer, separators=(",", ":")))
    assert answered["milliseconds"] > 0
    assert datetime.fromisoformat(answered["time"]).tzinfo is not None
    assert (bad["path"], bad["status"], bad["images"]) == ("/", 400, 0)
    assert (deleted["method"], deleted["status"]) == ("DELETE", 405)


def test_neither_token_nor_payload_nor_query_is_logged(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, SECRET)
    right = {"Authorization": f"Bearer {SECRET}"}
    sent: dict[str, Any] = question()
    with connected() as connection:
        assert exchange(connection, body=sent, headers=right)[0] == 200
        assert exchange(connection, body={**sent, "dtype": "Zebra"}, headers=right)[0] == 400
        assert exchange(connection, path=f"/{SECRET}?{SECRET}", headers=right)[0] == 404
        assert exchange(connection, body=sent, headers={"Authorization": SECRET})[0] == 401
    said = capfd.readouterr().err
    assert said.count("\n") == 4
    assert all(part not in said for part in (SECRET, sent["images"], "Zebra", "Bearer"))


@pytest.mark.parametrize(
    "line",
    [
        b"GET /\x1b[31mred\x07 HTTP/1.1",
        b"GET /\xe2\x80\xa8next HTTP/1.1",
        b"\x1b[2J / HTTP/1.1",
        b"\x00",
        b"GET /" + b"x" * 70_000 + b" HTTP/1.1",
        b"GET /" + b"x" * 60_000 + b" HTTP/1.1",
    ],
)
def test_what_no_client_should_send_is_one_short_line(
    capfd: pytest.CaptureFixture[str], line: bytes
) -> None:
    with connected() as connection:
        connection.connect()
        connection.sock.sendall(line + b"\r\nConnection: close\r\n\r\n")
        with suppress(ConnectionError):
            while connection.sock.recv(2**16):
                pass
    (said,) = capfd.readouterr().err.splitlines()
    assert said.isascii()
    assert said.isprintable()
    assert len(said) < 1000
    assert json.loads(said)["status"] >= 400


def test_a_classifier_that_fails_is_logged_with_the_reason(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with connected(Failing().eval()) as connection:
        assert exchange(connection, body=question())[0] == 500
    (line,) = logged(capfd)
    assert line["error"] == "the classifier failed: out of memory"


def test_servers_log_nothing_without_being_asked_to(capfd: pytest.CaptureFixture[str]) -> None:
    with connected() as connection:
        exchange(connection, "GET")
    assert len(logged(capfd)) == 1
    with serving(Linear().eval()) as server:
        HttpClassifier.connect(server.url)(IMAGES)
    assert capfd.readouterr().err == ""
