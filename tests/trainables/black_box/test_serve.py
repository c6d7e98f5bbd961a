import http.client
import time
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from tests.support.answering import IMAGES, Failing, Linear, exchange, question, serving
from trainables.black_box.endpoint import HttpClassifier
from trainables.black_box.exchange import TOKEN_VARIABLE
from trainables.black_box.json_server import MAX_REQUEST_BYTES
from trainables.black_box.server import ClassifierServer
from trainables.errors import InputError

torch.set_num_threads(1)
pytestmark = pytest.mark.usefixtures("direct")


@pytest.fixture
def connection(server: ClassifierServer) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=300)
    yield connection
    connection.close()


def test_the_client_gets_exactly_the_classifiers_logits() -> None:
    local = Linear().eval()
    with serving(local) as server:
        assert torch.equal(HttpClassifier.connect(server.url)(IMAGES), local(IMAGES))


def test_labels_only_tells_labels_and_nothing_else() -> None:
    local = Linear().eval()
    with serving(local, labels_only=True) as server:
        rows = HttpClassifier.connect(server.url)(IMAGES)
        address = ("127.0.0.1", server.server_address[1])
        status, answer = exchange(http.client.HTTPConnection(*address), body=question())
    assert status == 200
    assert set(answer) == {"model", "labels"}
    assert torch.equal(rows.argmax(1), local(IMAGES).argmax(1))
    assert rows.unique().tolist() == [0, 1]


def test_it_describes_the_classifier(
    connection: http.client.HTTPConnection, server: ClassifierServer
) -> None:
    status, description = exchange(connection, "GET")
    assert status == 200
    model = description.pop("model")
    assert description == {
        "protocol": 1, "classes": 4, "image_shape": [1, 2, 3], "returns": "logits",
    }  # fmt: skip
    _, answer = exchange(connection, body=question())
    assert answer["model"] == model
    with serving(Linear()) as same:
        assert same.description.model == model
    other = Linear()
    nn.init.ones_(other.head.bias)
    with serving(other) as different:
        assert different.description.model != model


def test_a_request_has_a_limited_number_of_images(
    connection: http.client.HTTPConnection, server: ClassifierServer
) -> None:
    classifier = server._classifier
    assert isinstance(classifier, Linear)
    classifier.batches.clear()
    for count in (257, 150_000):
        status, answer = exchange(connection, body=question(torch.zeros(count, 1, 2, 3)))
        assert (status, answer) == (400, {"error": f"{count} images; a request may have 256"})
    assert classifier.batches == []
    status, answer = exchange(connection, body=question(torch.zeros(256, 1, 2, 3)))
    assert (status, len(answer["logits"])) == (200, 256)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "body: "),
        (b"no JSON", "body: "),
        (b"\xff\xfe", "body: "),
        (b"[" * 100_000, "body: "),
        ([1, 2], "body: "),
        ({}, "shape: "),
        (question(dtype="float64"), "dtype: "),
        (question(shape=[7, 1, 2]), "shape"),
        (question(shape=[7, 1, 3, 2]), "shape: images are [1, 2, 3] here"),
        (question(shape=[6, 1, 2, 3]), "images: 168 bytes, but the shape needs 144"),
        (question(shape=[10**12, 1, 2, 3]), "images: 168 bytes"),
        (question(shape=[0, 1, 2, 3], images=""), "shape.0: "),
        (question(shape=[-7, 1, -2, 3]), "shape.0: "),
        (question(shape=[7.5, 1, 2, 3]), "shape.0: "),
        (question(images="AAA"), "images: "),
        (question(images=5), "images: "),
        (question(images="AAAA"), "images: 3 bytes"),
        (question(IMAGES * torch.nan), "images: a pixel is not finite"),
        (question(IMAGES * 1e38), "images: the logits of one are not finite"),
    ],
)
def test_a_bad_request_is_told_why_and_the_connection_goes_on(
    connection: http.client.HTTPConnection, body: object, reason: str
) -> None:
    status, answer = exchange(connection, body=body)
    assert (status, set(answer)) == (400, {"error"})
    assert answer["error"].startswith(reason)
    assert "\n" not in answer["error"]
    used = connection.sock
    assert exchange(connection, body=question())[0] == 200
    assert connection.sock is used


@pytest.mark.parametrize(("method", "body"), [("GET", None), ("POST", question())])
def test_there_is_nothing_at_other_paths(
    connection: http.client.HTTPConnection, method: str, body: object
) -> None:
    assert exchange(connection, method, body, path="/v2")[0] == 404
    assert exchange(connection, method, body, path="/?q=1")[0] == 200


def test_a_body_in_chunks_is_refused(connection: http.client.HTTPConnection) -> None:
    def slowly() -> Iterator[bytes]:
        yield b"{"
        # The server has answered by now, and must not have closed the connection.
        time.sleep(0.3)
        yield b"}"

    connection.request("POST", "/", slowly(), encode_chunked=True)
    assert connection.getresponse().status == 411


def test_a_client_reads_why_its_long_body_is_refused_although_it_sends_all_of_it(
    connection: http.client.HTTPConnection,
) -> None:
    length = MAX_REQUEST_BYTES + 1
    status, answer = exchange(connection, body=bytes(length))
    assert status == 413
    assert answer["error"].startswith("the body exceeds")


@pytest.mark.parametrize(("length", "status"), [("-1", 411), ("x", 411), (str(10**9), 413)])
def test_a_body_of_impossible_length_is_refused(
    connection: http.client.HTTPConnection, length: str, status: int
) -> None:
    found, answer = exchange(connection, body=b"{}", headers={"Content-Length": length})
    assert found == status
    assert answer["error"]


def test_a_failing_classifier_is_reported() -> None:
    with serving(Failing().eval()) as server:
        classifier = HttpClassifier.connect(server.url, tries=1)
        with pytest.raises(InputError, match="500: the classifier failed: out of memory"):
            classifier(IMAGES)
        classifier(IMAGES[:1])


def test_with_a_token_only_its_bearer_is_answered(
    monkeypatch: pytest.MonkeyPatch, connection: http.client.HTTPConnection
) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, "s3cr3t")
    for given in (None, "Bearer wrong", "s3cr3t", "Basic s3cr3t", "Bearer s3cr3tt", "Bearer é"):
        headers = {} if given is None else {"Authorization": given}
        for method, body in (("GET", None), ("POST", question())):
            status, answer = exchange(connection, method, body, headers=headers)
            assert (status, set(answer)) == (401, {"error"})
            assert "s3cr3t" not in answer["error"]
    right = {"Authorization": "Bearer s3cr3t"}
    assert exchange(connection, "GET", headers=right)[0] == 200
    assert exchange(connection, body=question(), headers=right)[0] == 200


def test_the_token_is_asked_for_before_the_body(
    monkeypatch: pytest.MonkeyPatch, connection: http.client.HTTPConnection
) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, "s3cr3t")
    # Of a body that never comes.
    connection.putrequest("POST", "/")
    connection.putheader("Content-Length", "1000")
    connection.endheaders()
    connection.sock.settimeout(30)
    assert connection.getresponse().status == 401


def test_client_and_server_share_the_token_variable(
    monkeypatch: pytest.MonkeyPatch, server: ClassifierServer
) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, "s3cr3t")
    assert HttpClassifier.connect(server.url)(IMAGES).shape == (7, 4)
    monkeypatch.setattr("trainables.black_box.exchange._token", lambda: "wrong")
    with pytest.raises(InputError, match=f"401: the bearer token .*; set {TOKEN_VARIABLE}"):
        HttpClassifier.connect(server.url)
