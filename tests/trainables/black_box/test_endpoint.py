import pickle
import traceback
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from tests.support.scripted import (
    DESCRIPTION,
    IMAGES,
    asked_pixels,
    first_pixels,
    refusal,
    reply,
    serving,
)
from trainables.black_box import endpoint, exchange
from trainables.black_box.endpoint import HttpClassifier
from trainables.errors import InputError
from trainables.weights.checkpoint import weights_hash

pytestmark = pytest.mark.usefixtures("direct", "quick")
SECRET = "s3cr3t-t0k3n"


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
            ("MAX_NUMBERS", 7, [2] * 5),
            ("MAX_NUMBERS", 1, [1] * 10),
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
    own = exchange._session()
    assert exchange._session() is own
    monkeypatch.setattr("os.getpid", lambda: -1)
    assert exchange._session() is not own


def test_the_token_is_read_at_each_query_and_kept_nowhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with serving() as server:
        classifier = HttpClassifier.connect(server.url)
        monkeypatch.setenv(exchange.TOKEN_VARIABLE, SECRET + "\n")
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
    monkeypatch.setenv(exchange.TOKEN_VARIABLE, SECRET)
    echo = reply({"error": f"bad Bearer {SECRET}!"}, status, Location=f"http://x/?t={SECRET}")
    with serving(echo) as server:
        classifier = HttpClassifier.connect(server.url, tries=2)
        message = refusal(lambda: classifier(IMAGES), "***")
    assert SECRET not in message
    assert (exchange.TOKEN_VARIABLE in message) == (status == 401)


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
    monkeypatch.setenv(exchange.TOKEN_VARIABLE, SECRET)
    with serving(reply(answer)) as server:
        classifier = HttpClassifier.connect(server.url)
        with pytest.raises(InputError) as caught:
            classifier(IMAGES)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("token", ["two\nlines", "naïve", "nul\x00"])
def test_a_token_that_no_header_can_carry_is_refused_unseen(
    monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    monkeypatch.setattr(exchange, "_token", lambda: token)
    with serving() as server, pytest.raises(InputError, match=exchange.TOKEN_VARIABLE) as caught:
        HttpClassifier.connect(server.url)
    assert token not in str(caught.value)


@pytest.mark.parametrize("url", ["http://me:pa55word@127.0.0.1:1/", "http://pa55word@host/"])
def test_a_url_with_a_password_is_refused_without_showing_it(url: str) -> None:
    message = refusal(lambda: HttpClassifier.connect(url), exchange.TOKEN_VARIABLE)
    assert "pa55word" not in message
