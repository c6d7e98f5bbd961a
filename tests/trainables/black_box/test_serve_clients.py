"""Clients that come at once, leave early, or take their time."""

import http.client
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
import requests
import torch
from torch import Tensor, nn

from tests.support.answering import IMAGES, Linear, exchange, serving
from tests.support.background import in_background
from trainables.black_box import json_server
from trainables.black_box.endpoint import HttpClassifier
from trainables.black_box.server import ClassifierServer

torch.set_num_threads(1)
pytestmark = pytest.mark.usefixtures("direct")


def test_the_classifier_answers_one_request_at_a_time() -> None:
    inside: list[int] = []
    most: list[int] = []

    class Busy(Linear):
        def forward(self, images: Tensor) -> Tensor:
            inside.append(1)
            time.sleep(0.01)
            most.append(len(inside))
            inside.pop()
            return super().forward(images)

    with serving(Busy()) as server, ThreadPoolExecutor(4) as pool:
        list(pool.map(HttpClassifier.connect(server.url), [IMAGES] * 8))
    assert max(most) == 1


def test_many_clients_get_their_own_answers(server: ClassifierServer) -> None:
    local, classifier = server._classifier, HttpClassifier.connect(server.url)
    batches = [torch.rand(5, 1, 2, 3) for _ in range(60)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(classifier, batches))
    with torch.no_grad():
        assert all(torch.equal(a, local(b)) for a, b in zip(answers, batches, strict=True))


def test_a_client_that_leaves_does_no_harm(
    server: ClassifierServer, capfd: pytest.CaptureFixture[str]
) -> None:
    for start in (b"", b"POST / HTTP/1.1\r\n", b"POST / HTTP/1.1\r\nContent-Length: 99\r\n\r\n{"):
        with socket.create_connection(("127.0.0.1", server.server_address[1])) as client:
            client.sendall(start)
    assert HttpClassifier.connect(server.url)(IMAGES).shape == (7, 4)
    assert capfd.readouterr().err == ""


def test_clients_that_come_at_once_are_all_answered() -> None:
    server = ClassifierServer(Linear(), (1, 2, 3), ("127.0.0.1", 0))
    with ExitStack() as stack:
        # All of them before the first is served: what does not fit would wait for ever.
        clients = [
            stack.enter_context(socket.create_connection(server.server_address[:2], timeout=10))  # type: ignore[arg-type]
            for _ in range(200)
        ]
        stack.enter_context(in_background(server))
        for client in clients:
            client.settimeout(300)
            client.sendall(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
        assert {client.recv(15) for client in clients} == {b"HTTP/1.1 200 OK"}


def test_a_request_that_is_being_answered_when_the_server_closes_is_answered() -> None:
    begun, go_on = threading.Event(), threading.Event()

    class Waiting(Linear):
        def forward(self, images: Tensor) -> Tensor:
            if len(images) == len(IMAGES):
                begun.set()
                assert go_on.wait(300)
            return super().forward(images)

    with ThreadPoolExecutor(1) as pool:
        with serving(Waiting()) as server:
            answer = pool.submit(HttpClassifier.connect(server.url, tries=1), IMAGES)
            assert begun.wait(300)
            threading.Timer(0.5, go_on.set).start()
        assert answer.result(timeout=300).shape == (7, 4)


def test_closing_the_server_ends_idle_connections_and_their_threads() -> None:
    before = set(threading.enumerate())
    with requests.Session() as session:
        with serving(nn.Sequential(nn.Flatten(), nn.Linear(6, 2))) as server:
            assert session.get(server.url).status_code == 200
            connections = set(threading.enumerate()) - before
            assert any("process_request_thread" in thread.name for thread in connections)
        assert not any(thread.is_alive() for thread in connections)


@pytest.mark.parametrize(
    ("limit", "start", "status"),
    [
        ("HEADERS", b"GE", None),
        ("HEADERS", b"POST / HTTP/1.1\r\nX: ", None),
        ("BODY", b"POST / HTTP/1.1\r\nContent-Length: 100000\r\n\r\n", 408),
    ],
)
def test_a_client_that_is_never_silent_and_never_done_is_left(
    monkeypatch: pytest.MonkeyPatch,
    server: ClassifierServer,
    limit: str,
    start: bytes,
    status: int | None,
) -> None:
    monkeypatch.setattr(json_server, limit, 0.5)
    with socket.create_connection(server.server_address[:2], timeout=0.02) as client:  # type: ignore[arg-type]
        client.sendall(start)
        answer = b""
        while True:
            try:
                client.sendall(b"x")
                part = client.recv(2**16)
            except TimeoutError:
                continue
            except ConnectionError:
                break
            if not part:
                break
            answer += part
    if status is None:
        assert answer == b""
    else:
        assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert HttpClassifier.connect(server.url)(IMAGES).shape == (7, 4)


def test_a_client_that_comes_back_in_time_keeps_its_connection(
    monkeypatch: pytest.MonkeyPatch, server: ClassifierServer
) -> None:
    monkeypatch.setattr(json_server, "BODY", 0.0)
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=300)
    for _ in range(2):
        # No body is waited for; that of a request before has had its own time.
        assert exchange(connection, "GET")[0] == 200
