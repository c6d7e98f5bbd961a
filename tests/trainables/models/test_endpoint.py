import base64
import json
import pickle
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest
import torch

from trainables.errors import InputError
from trainables.models import endpoint
from trainables.models.checkpoint import weights_hash
from trainables.models.endpoint import HttpClassifier

DESCRIPTION = {
    "protocol": 1, "classes": 3, "image_shape": [1, 2, 2], "returns": "logits", "model": "m1",
}  # fmt: skip
IMAGES = torch.rand((5, 1, 2, 2), generator=torch.Generator().manual_seed(0))
SECRET = "s3cr3t-t0k3n"


def reply(content: object, status: int = 200, **headers: str) -> Callable[[Any], None]:
    """A reply with `content`, as JSON unless it is bytes."""

    def send(handler: BaseHTTPRequestHandler) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        handler.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return send


def close(handler: BaseHTTPRequestHandler) -> None:
    handler.close_connection = True


def half(handler: BaseHTTPRequestHandler) -> None:
    """Promise a long body, send a little of it, and leave."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"log')
    handler.close_connection = True


def stall(handler: BaseHTTPRequestHandler) -> None:
    time.sleep(1)
    handler.close_connection = True


def stall_in_the_body(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    stall(handler)


def first_pixels(handler: Any) -> None:
    """The honest endpoint: an image's logits are its first three pixels."""
    pixels = asked_pixels(handler.server.requests[-1])
    reply({"model": "m1", "logits": pixels.reshape(len(pixels), -1)[:, :3].tolist()})(handler)


def asked_pixels(request: dict[str, Any]) -> np.ndarray[Any, Any]:
    question = json.loads(request["body"])
    assert question["dtype"] == "float32"
    return np.frombuffer(base64.b64decode(question["images"]), "<f4").reshape(question["shape"])


class Scripted(ThreadingHTTPServer):
    """Describes itself, then answers POSTs by a script whose last line repeats."""

    def __init__(self, script: list[Callable[[Any], None]], description: Any) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script, self.description = script, description
        self.requests: list[dict[str, Any]] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}/"

    def posts(self) -> int:
        return sum(request["method"] == "POST" for request in self.requests)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Scripted

    def do_GET(self) -> None:
        self._record()
        description = self.server.description
        (description if callable(description) else reply(description))(self)

    def do_POST(self) -> None:
        self._record()
        script = self.server.script
        (script.pop(0) if len(script) > 1 else script[0])(self)

    def _record(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        request = {"method": self.command, "headers": dict(self.headers), "body": body}
        self.server.requests.append(request)

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


@contextmanager
def serving(*script: Callable[[Any], None], description: Any = DESCRIPTION) -> Iterator[Scripted]:
    with Scripted(list(script) or [first_pixels], description) as server:
        # A client that gave up is no error of the test.
        server.handle_error = lambda *_: None  # type: ignore[method-assign]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "BACKOFF", 0.01)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.delenv(endpoint.TOKEN_VARIABLE, raising=False)


def refusal(action: Callable[[], object], *parts: str) -> str:
    """The one line that `action` is refused with; it names the flag and holds `parts`."""
    with pytest.raises(InputError) as caught:
        action()
    message = str(caught.value)
    assert message.startswith("--classifier: ")
    assert "\n" not in message
    assert all(part in message for part in parts), message
    return message


def test_logits_arrive_as_the_endpoint_gives_them() -> None:
    with serving() as server:
        classifier = HttpClassifier.connect(server.url)
        logits = classifier(IMAGES.clone().requires_grad_(True))
    assert torch.equal(logits, IMAGES.flatten(1)[:, :3])
    assert logits.dtype == torch.float32
    assert not logits.requires_grad
    assert classifier.num_classes == 3


def test_labels_become_one_hot_rows() -> None:
    answer = reply({"model": "m1", "labels": [2, 0, 1, 1, 2]})
    with serving(answer, description=DESCRIPTION | {"returns": "labels"}) as server:
        rows = HttpClassifier.connect(server.url)(IMAGES)
    assert rows.tolist() == [[0, 0, 1], [1, 0, 0], [0, 1, 0], [0, 1, 0], [0, 0, 1]]
    assert rows.dtype == torch.float32


def test_pixels_travel_as_they_are_whatever_their_memory_order() -> None:
    images = torch.randn((4, 3, 5, 6)) * 3
    with serving(description=DESCRIPTION | {"image_shape": [3, 5, 6]}) as server:
        classifier = HttpClassifier.connect(server.url)
        classifier(images.contiguous(memory_format=torch.channels_last))
        classifier(images.double())
        for request in server.requests[1:]:
            assert np.array_equal(asked_pixels(request), images.numpy())


def test_large_batches_go_out_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.rand(10, 1, 2, 2)
    with serving() as server:
        classifier = HttpClassifier.connect(server.url)
        for limit, value, sizes in (
            ("MAX_IMAGES", 4, [4, 4, 2]),
            ("MAX_PIXEL_BYTES", 3 * 16, [3, 3, 3, 1]),
            ("MAX_PIXEL_BYTES", 1, [1] * 10),
        ):
            server.requests.clear()
            with monkeypatch.context() as patch:
                patch.setattr(endpoint, limit, value)
                assert torch.equal(classifier(images), images.flatten(1)[:, :3])
            assert [len(asked_pixels(request)) for request in server.requests] == sizes


def test_an_image_that_is_not_finite_is_not_sent_and_gets_no_class() -> None:
    images = IMAGES.clone()
    images[1, 0, 0, 0], images[3, 0, 1, 1] = torch.nan, torch.inf
    with serving() as server:
        logits = HttpClassifier.connect(server.url)(images)
        assert len(asked_pixels(server.requests[-1])) == 3
    assert logits.isnan().all(dim=1).tolist() == [False, True, False, True, False]
    assert torch.equal(logits[[0, 2, 4]], IMAGES.flatten(1)[[0, 2, 4], :3])


def test_no_images_are_no_request() -> None:
    with serving() as server:
        classifier = HttpClassifier.connect(server.url)
        assert classifier(IMAGES[:0]).shape == (0, 3)
        assert server.posts() == 0


def test_images_of_another_shape_are_refused() -> None:
    with serving() as server:
        classifier = HttpClassifier.connect(server.url)
        refusal(lambda: classifier(torch.rand(2, 3, 2, 2)), server.url, "(1, 2, 2)", "(3, 2, 2)")
        assert server.posts() == 0


def test_an_absent_endpoint_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
    refusal(lambda: HttpClassifier.connect(url, tries=2), url, "nothing listens", "tries: 2")


def test_an_unknown_host_is_named() -> None:
    url = "http://host.invalid:80/"
    refusal(lambda: HttpClassifier.connect(url, tries=1), url, "nothing listens", "tries: 1")


@pytest.mark.parametrize("reaction", [stall, stall_in_the_body])
def test_a_slow_endpoint_is_given_up_after_the_tries(reaction: Callable[[Any], None]) -> None:
    with serving(reaction) as server:
        classifier = HttpClassifier.connect(server.url, timeout=0.1, tries=3)
        refusal(lambda: classifier(IMAGES), server.url, "within 0.1 s", "tries: 3")
        assert server.posts() == 3


@pytest.mark.parametrize(
    "failure",
    [
        close, half, stall, stall_in_the_body, reply({}, 503), reply(b"busy", 429, Retry_After="0"),
        reply({}, 500), reply({}, 502), reply({}, 504), reply({}, 503, Retry_After="soon"),
    ],
)  # fmt: skip
def test_a_passing_failure_is_survived(failure: Callable[[Any], None]) -> None:
    with serving(failure, failure, first_pixels) as server:
        classifier = HttpClassifier.connect(server.url, timeout=0.2)
        assert torch.equal(classifier(IMAGES), IMAGES.flatten(1)[:, :3])
        assert server.posts() == 3


def test_a_lasting_failure_ends_after_the_tries_with_the_servers_message() -> None:
    with serving(reply({"error": "the GPU\nis on fire"}, 503)) as server:
        classifier = HttpClassifier.connect(server.url, tries=4)
        refusal(lambda: classifier(IMAGES), server.url, "503: the GPU is on fire", "tries: 4")
        assert server.posts() == 4


def test_a_lasting_loss_of_the_connection_ends_after_the_tries() -> None:
    with serving(close) as server:
        classifier = HttpClassifier.connect(server.url, tries=2)
        refusal(lambda: classifier(IMAGES), server.url, "broke the connection off", "tries: 2")
        assert server.posts() == 2


@pytest.mark.parametrize(("asked", "longest", "slept"), [("1", 60, 1.0), ("86400", 0.3, 0.3)])
def test_the_pause_that_the_server_asks_for_is_kept_up_to_a_limit(
    monkeypatch: pytest.MonkeyPatch, asked: str, longest: float, slept: float
) -> None:
    monkeypatch.setattr(endpoint, "LONGEST_PAUSE", longest)
    with serving(reply({}, 429, Retry_After=asked), first_pixels) as server:
        classifier = HttpClassifier.connect(server.url)
        started = time.monotonic()
        classifier(IMAGES)
        assert slept <= time.monotonic() - started < slept + 2


@pytest.mark.parametrize(
    ("status", "content", "expected"),
    [
        (400, {"error": "images: too dark"}, "400: images: too dark"),
        (404, b"<html>\n<b>Not Found</b>", "404: <html> <b>Not Found</b>"),
        (404, b"", "404: Not Found"),
        (403, {"detail": "no"}, "403: "),
        (400, {"error": "x" * 10_000}, "x" * 200),
        (400, b"\x1b[31m\xff\x00red", "[31m"),
    ],
)
def test_a_refused_request_shows_the_servers_message_and_is_not_repeated(
    status: int, content: object, expected: str
) -> None:
    with serving(reply(content, status)) as server:
        classifier = HttpClassifier.connect(server.url)
        message = refusal(lambda: classifier(IMAGES), server.url, expected)
        assert server.posts() == 1
    assert message.isprintable()
    assert len(message) < 300


def test_a_redirection_is_shown_and_not_followed() -> None:
    with serving(reply({}, 302, Location="http://elsewhere.invalid/")) as server:
        classifier = HttpClassifier.connect(server.url)
        refusal(lambda: classifier(IMAGES), "redirects to http://elsewhere.invalid/")


def test_https_to_a_server_without_it_is_refused_at_once() -> None:
    with serving() as server:
        url = server.url.replace("http:", "https:")
        refusal(lambda: HttpClassifier.connect(url), url, "no secure connection")


@pytest.mark.parametrize(
    "description",
    [
        b"<html>hello</html>", b"", b"[" * 10_000, b"null", [1],
        {},
        DESCRIPTION | {"protocol": 2},
        DESCRIPTION | {"classes": "10"},
        DESCRIPTION | {"classes": 1},
        DESCRIPTION | {"classes": 2.5},
        DESCRIPTION | {"classes": True},
        DESCRIPTION | {"image_shape": [28, 28]},
        DESCRIPTION | {"image_shape": [1, 28, 0]},
        DESCRIPTION | {"image_shape": "1,2,2"},
        DESCRIPTION | {"returns": "probabilities"},
        DESCRIPTION | {"model": ""},
        DESCRIPTION | {"model": None},
    ],
)  # fmt: skip
def test_something_else_than_a_description_is_refused(description: object) -> None:
    with serving(description=reply(description)) as server:
        refusal(
            lambda: HttpClassifier.connect(server.url), server.url, "does not speak the protocol",
            "docs/black_box.md",
        )  # fmt: skip


def test_further_entries_of_a_description_do_no_harm() -> None:
    with serving(description=DESCRIPTION | {"owner": "me"}) as server:
        assert HttpClassifier.connect(server.url).num_classes == 3


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"not JSON", "does not speak"),
        ([[1, 2, 3]] * 5, "does not speak"),
        ({"logits": [[1, 2, 3]] * 5}, "model"),
        ({"model": "m1"}, "promised logits"),
        ({"model": "m1", "labels": [0] * 5}, "promised logits"),
        ({"model": "m1", "logits": [[1, 2, 3]] * 4}, "4 logits for 5 images"),
        ({"model": "m1", "logits": []}, "0 logits for 5 images"),
        ({"model": "m1", "logits": [[1, 2, 3]] * 4 + [[1, 2]]}, "another number"),
        ({"model": "m1", "logits": [[1, 2, 3, 4]] * 5}, "another number"),
        ({"model": "m1", "logits": [1, 2, 3, 4, 5]}, "logits.0"),
        ({"model": "m1", "logits": [[1, 2, "3"]] * 5}, "logits.0.2"),
        ({"model": "m1", "logits": [[1, 2, True]] * 5}, "logits.0.2"),
        ({"model": "m1", "logits": [[1, 2, float("nan")]] * 5}, "logits.0.2"),
        ({"model": "m1", "logits": [[1, 2, float("-inf")]] * 5}, "logits.0.2"),
        ({"model": "m1", "logits": [[1, 2, 1e39]] * 5}, "32-bit"),
    ],
)
def test_garbage_instead_of_logits_is_refused_and_not_repeated(
    answer: object, expected: str
) -> None:
    with serving(reply(answer)) as server:
        classifier = HttpClassifier.connect(server.url)
        refusal(lambda: classifier(IMAGES), server.url, expected)
        assert server.posts() == 1


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([0, 1, 2, 3, 0], "outside 0 to 2"),
        ([0, 1, 2, -1, 0], "outside 0 to 2"),
        ([0, 1, 2, 10**30, 0], "outside 0 to 2"),
        ([0, 1, 2, 1.5, 0], "labels.3"),
        ([0, 1, 2, True, 0], "labels.3"),
        ([0, 1, 2, "1", 0], "labels.3"),
        ([0, 1], "2 labels for 5 images"),
        (None, "promised labels"),
    ],
)
def test_garbage_instead_of_labels_is_refused(labels: object, expected: str) -> None:
    answer = reply({"model": "m1", "labels": labels, "logits": [[1, 2, 3]] * 5})
    with serving(answer, description=DESCRIPTION | {"returns": "labels"}) as server:
        classifier = HttpClassifier.connect(server.url)
        refusal(lambda: classifier(IMAGES), server.url, expected)


def test_another_model_behind_the_address_is_noticed() -> None:
    with serving(first_pixels, reply({"model": "m2", "logits": [[1, 2, 3]] * 5})) as server:
        classifier = HttpClassifier.connect(server.url)
        classifier(IMAGES)
        refusal(
            lambda: classifier(IMAGES), f"the model behind {server.url} changed", "'m1'", "'m2'"
        )


def test_the_hash_tells_endpoints_models_and_kinds_of_answer_apart() -> None:
    hashes = []
    with serving() as server:
        for changes in ({}, {"model": "m2"}, {"returns": "labels"}):
            server.description = DESCRIPTION | changes
            for url in (server.url, server.url + "other", server.url.rstrip("/")):
                hashes.append(weights_hash(HttpClassifier.connect(url)))
    assert len(set(hashes)) == 6
    assert hashes[0] == hashes[2]


def test_a_pickled_copy_answers_and_is_the_same_classifier() -> None:
    with serving() as server:
        classifier = HttpClassifier.connect(server.url, timeout=7)
        classifier(IMAGES)
        copy = pickle.loads(pickle.dumps(classifier))
        assert torch.equal(copy(IMAGES), classifier(IMAGES))
        assert weights_hash(copy) == weights_hash(classifier)


def test_training_mode_devices_and_gradients_do_not_concern_it() -> None:
    with serving() as server:
        classifier = HttpClassifier.connect(server.url)
        before = weights_hash(classifier)
        moved = classifier.train().to(torch.device("cpu")).double().requires_grad_(True)
        assert torch.equal(moved(IMAGES), IMAGES.flatten(1)[:, :3])
        with torch.inference_mode():
            assert torch.equal(moved(IMAGES + 0), IMAGES.flatten(1)[:, :3])
        assert weights_hash(moved) == before


def test_threads_ask_at_once_over_connections_of_their_own() -> None:
    with serving() as server, ThreadPoolExecutor(8) as pool:
        classifier = HttpClassifier.connect(server.url)
        batches = [torch.rand(3, 1, 2, 2) for _ in range(40)]
        answers = list(pool.map(classifier, batches))
    for batch, answer in zip(batches, answers, strict=True):
        assert torch.equal(answer, batch.flatten(1)[:, :3])


def test_a_forked_process_opens_connections_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    own = endpoint._session()
    assert endpoint._session() is own
    monkeypatch.setattr("os.getpid", lambda: -1)
    assert endpoint._session() is not own


def test_the_token_is_read_at_each_query_and_kept_nowhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with serving() as server:
        classifier = HttpClassifier.connect(server.url)
        monkeypatch.setenv(endpoint.TOKEN_VARIABLE, SECRET + "\n")
        classifier(IMAGES)
        classifier = HttpClassifier.connect(server.url)
        sent = [request["headers"].get("Authorization") for request in server.requests]
        assert sent == [None, f"Bearer {SECRET}", f"Bearer {SECRET}"]
        assert SECRET.encode() not in pickle.dumps(classifier)
        assert SECRET not in repr(classifier) + str(vars(classifier))
        assert server.url in repr(classifier)


@pytest.mark.parametrize("status", [400, 401, 503, 302])
def test_no_error_shows_the_token_even_if_the_server_does(
    monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setenv(endpoint.TOKEN_VARIABLE, SECRET)
    echo = reply({"error": f"bad Bearer {SECRET}!"}, status, Location=f"http://x/?t={SECRET}")
    with serving(echo) as server:
        classifier = HttpClassifier.connect(server.url, tries=2)
        message = refusal(lambda: classifier(IMAGES), "***")
    assert SECRET not in message
    assert (endpoint.TOKEN_VARIABLE in message) == (status == 401)


@pytest.mark.parametrize(
    "answer",
    [
        {"error": f"Bearer {SECRET}"},
        {"model": f"Bearer {SECRET}", "logits": [[1, 2, 3]] * 5},
        {"model": "m1", "logits": [[1, 2, SECRET]] * 5},
        SECRET.encode(),
    ],
)
def test_no_traceback_shows_the_token_even_if_the_answer_does(
    monkeypatch: pytest.MonkeyPatch, answer: object
) -> None:
    monkeypatch.setenv(endpoint.TOKEN_VARIABLE, SECRET)
    with serving(reply(answer)) as server:
        classifier = HttpClassifier.connect(server.url)
        with pytest.raises(InputError) as caught:
            classifier(IMAGES)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("token", ["two\nlines", "naïve", "nul\x00"])
def test_a_token_that_no_header_can_carry_is_refused_unseen(
    monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    monkeypatch.setattr(endpoint, "_token", lambda: token)
    with serving() as server, pytest.raises(InputError, match=endpoint.TOKEN_VARIABLE) as caught:
        HttpClassifier.connect(server.url)
    assert token not in str(caught.value)


@pytest.mark.parametrize("url", ["http://me:pa55word@127.0.0.1:1/", "http://pa55word@host/"])
def test_a_url_with_a_password_is_refused_without_showing_it(url: str) -> None:
    message = refusal(lambda: HttpClassifier.connect(url), endpoint.TOKEN_VARIABLE)
    assert "pa55word" not in message


@pytest.mark.parametrize(
    "url",
    [
        "", "http://", "127.0.0.1:8000", "localhost:8000/", "ftp://host/", "http://host:port/",
        "http://host:99999/", "file:///tmp/x", "http://[::1/", "http://" + "a" * 300 + "/",
    ],
)  # fmt: skip
def test_something_else_than_a_url_is_refused(url: str) -> None:
    refusal(lambda: HttpClassifier.connect(url, tries=1))
