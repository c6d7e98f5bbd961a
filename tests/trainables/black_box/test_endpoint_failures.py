import resource
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch

from tests.support.scripted import (
    DESCRIPTION,
    IMAGES,
    bomb,
    close,
    first_pixels,
    half,
    refusal,
    reply,
    serving,
    stall,
    stall_in_the_body,
    trickle,
    trickle_headers,
)
from trainables.black_box import exchange
from trainables.black_box.endpoint import HttpClassifier

pytestmark = pytest.mark.usefixtures("direct", "quick")
# Seconds of patience with an endpoint that waits for one.
STALLED = 0.3


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
        classifier = HttpClassifier.connect(server.url, timeout=STALLED, tries=3)
        refusal(lambda: classifier(IMAGES), server.url, f"within {STALLED} s", "tries: 3")
        assert server.posts() == 3


@pytest.mark.parametrize("reaction", [trickle, trickle_headers])
def test_an_endpoint_that_never_finishes_is_given_up_after_the_tries(
    reaction: Callable[[Any], None],
) -> None:
    with serving(reaction) as server:
        classifier = HttpClassifier.connect(server.url, timeout=STALLED, tries=2)
        said = f"did not finish its answer within {4 * STALLED:g} s"
        refusal(lambda: classifier(IMAGES), server.url, said, "tries: 2")
        assert server.posts() == 2


@pytest.mark.parametrize("status", [200, 404])
def test_no_more_is_read_than_an_answer_needs(status: int) -> None:
    endless = reply(b"x" * 10_000_000, status)
    with serving(endless) as server:
        classifier = HttpClassifier.connect(server.url)
        said = "sent more than 66,496 bytes" if status == 200 else "404: xxx"
        refusal(lambda: classifier(IMAGES), server.url, said)
        assert server.posts() == 1


def test_an_answer_that_grows_when_it_is_decompressed_is_refused_in_little_memory() -> None:
    with serving(bomb) as server:
        classifier = HttpClassifier.connect(server.url)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        refusal(lambda: classifier(IMAGES), server.url, "sent more than 66,496 bytes")
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


@pytest.mark.parametrize(
    "failure",
    [
        close, half, stall, stall_in_the_body, reply({}, 503), reply(b"busy", 429, Retry_After="0"),
        reply({}, 500), reply({}, 502), reply({}, 504), reply({}, 503, Retry_After="soon"),
    ],
)  # fmt: skip
def test_a_passing_failure_is_survived(failure: Callable[[Any], None]) -> None:
    timeout = STALLED if failure in (stall, stall_in_the_body) else 300
    with serving(failure, failure, first_pixels) as server:
        classifier = HttpClassifier.connect(server.url, timeout=timeout)
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
        refusal(lambda: classifier(IMAGES), server.url, "broke off the connection", "tries: 2")
        assert server.posts() == 2


@pytest.mark.parametrize(("asked", "longest", "slept"), [("1", 60, 1.0), ("86400", 0.3, 0.3)])
def test_the_pause_that_the_server_asks_for_is_kept_up_to_a_limit(
    monkeypatch: pytest.MonkeyPatch, asked: str, longest: float, slept: float
) -> None:
    monkeypatch.setattr(exchange, "LONGEST_PAUSE", longest)
    pauses: list[float] = []
    with serving(reply({}, 429, Retry_After=asked), first_pixels) as server:
        classifier = HttpClassifier.connect(server.url)
        monkeypatch.setattr(time, "sleep", pauses.append)
        classifier(IMAGES)
    assert pauses == [slept]


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
        DESCRIPTION | {"classes": 10**30},
        DESCRIPTION | {"classes": 100_001},
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
            lambda: HttpClassifier.connect(server.url), server.url, "does not follow the protocol",
            "docs/black_box.md",
        )  # fmt: skip


def test_further_entries_of_a_description_do_no_harm() -> None:
    with serving(description=DESCRIPTION | {"owner": "me"}) as server:
        assert HttpClassifier.connect(server.url).num_classes == 3


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"not JSON", "does not follow"),
        ([[1, 2, 3]] * 5, "does not follow"),
        ({"logits": [[1, 2, 3]] * 5}, "model"),
        ({"model": "m1"}, "promised logits"),
        ({"model": "m1", "labels": [0] * 5}, "promised logits"),
        ({"model": "m1", "logits": [[1, 2, 3]] * 4}, "4 logits for 5 images"),
        ({"model": "m1", "logits": []}, "0 logits for 5 images"),
        ({"model": "m1", "logits": [[1, 2, 3]] * 4 + [[1, 2]]}, "did not give 3 logits"),
        ({"model": "m1", "logits": [[1, 2, 3, 4]] * 5}, "did not give 3 logits"),
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


@pytest.mark.parametrize(
    "url",
    [
        "", "http://", "127.0.0.1:8000", "localhost:8000/", "ftp://host/", "http://host:port/",
        "http://host:99999/", "file:///x", "http://[::1/", "http://" + "a" * 300 + "/",
    ],
)  # fmt: skip
def test_something_else_than_a_url_is_refused(url: str) -> None:
    refusal(lambda: HttpClassifier.connect(url, tries=1))
