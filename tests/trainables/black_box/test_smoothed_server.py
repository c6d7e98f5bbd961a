"""An exported classifier behind HTTP, asked over a socket, also with what it must refuse."""

import base64
import http.client
import io
import json
import re
import socket
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin

from tests.support.background import in_background
from tests.support.exports import Constant, write_export
from trainables.black_box import smoothed_server
from trainables.black_box.exchange import TOKEN_VARIABLE
from trainables.black_box.json_server import MAX_REQUEST_BYTES
from trainables.black_box.smoothed_server import MOST_IMAGES, SmoothedServer
from trainables.errors import InputError
from trainables.smoothing import SmoothedClassifier

torch.set_num_threads(1)
ROOT = Path(__file__).resolve().parents[3]
ADDRESS = ("127.0.0.1", 0)
PIXELS = np.random.default_rng(0).integers(0, 256, (4, 4), dtype=np.uint8)


@pytest.fixture
def export(tmp_path: Path) -> Path:
    return write_export(tmp_path / "export", Constant(), class_names=("ant", "bee", "<cat>"))


@pytest.fixture
def server(export: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SmoothedServer]:
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    smoothed = SmoothedClassifier.load(export, Constant(), seed=0)
    with in_background(SmoothedServer(smoothed, ADDRESS)) as server:
        yield server


def png(pixels: Any = PIXELS, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def floats(count: int, *shape: int, value: float = 0.5, **changes: Any) -> bytes:
    shape = shape or (1, 4, 4)
    pixels = np.full((count, *shape), value, "<f4").tobytes()
    question = {
        "shape": [count, *shape],
        "dtype": "float32",
        "images": base64.b64encode(pixels).decode(),
    }
    return json.dumps(question | changes).encode()


def ask(
    server: SmoothedServer, method: str, path: str, body: bytes | None = None, **headers: str
) -> tuple[int, Any]:
    connection = http.client.HTTPConnection(*server.server_address[:2], timeout=300)  # type: ignore[arg-type]
    connection.request(method, path, body, headers)
    response = connection.getresponse()
    content = response.read()
    assert response.headers["Content-Type"] == "application/json"
    connection.close()
    return response.status, json.loads(content)


def test_it_describes_what_it_serves(server: SmoothedServer, export: Path) -> None:
    status, found = ask(server, "GET", "/")
    assert status == 200
    config = json.loads((export / "config.json").read_text())
    assert found["export"] == config["config_hash"][:16]
    assert found["class_names"] == ["ant", "bee", "<cat>"]
    for name in ("image_shape", "sigma", "alpha", "n", "n0", "procedure"):
        assert found[name] == config[name]


def test_an_image_file_is_predicted_and_certified(server: SmoothedServer, export: Path) -> None:
    local = SmoothedClassifier.load(export, Constant(), seed=0)
    status, found = ask(server, "POST", "/certify?from=somewhere", png())
    (proof,) = found["certificates"]
    expected = local.certify(PIXELS)
    assert status == 200
    assert (proof["label"], proof["name"]) == (2, "<cat>")
    for name in ("radius", "votes_top", "n", "votes", "p_lower", "p_upper", "sigma", "alpha"):
        assert proof[name] == getattr(expected, name)
    assert ask(server, "POST", "/predict", png(kind="BMP")) == (
        200,
        {"predictions": [{"label": 2, "name": "<cat>"}]},
    )


def test_several_images_as_json_get_an_answer_each(server: SmoothedServer) -> None:
    status, found = ask(server, "POST", "/predict", floats(3))
    assert (status, len(found["predictions"])) == (200, 3)
    status, found = ask(server, "POST", "/certify", b"  " + floats(2))
    assert (status, [one["label"] for one in found["certificates"]]) == (200, [2, 2])


def test_what_the_votes_do_not_decide_has_a_name_too(export: Path) -> None:
    smoothed = SmoothedClassifier.load(export, Constant(), seed=0)
    smoothed._votes = lambda image, request: [5, 5, 0]  # type: ignore[method-assign]
    with in_background(SmoothedServer(smoothed, ADDRESS)) as server:
        _, found = ask(server, "POST", "/certify", png())
    (proof,) = found["certificates"]
    assert (proof["label"], proof["name"], proof["radius"]) == (-1, "abstains", 0.0)


def bomb() -> bytes:
    """A small file that claims a huge image."""
    data = bytearray(png())
    data[16:24] = (40_000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)


BAD = {
    "empty": (b"", "empty"),
    "text": (b"hello", "neither an image file"),
    "other format": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n", "neither an image file"),
    "cut off": (png()[:-40], "cannot be decoded"),
    "size": (png(np.zeros((5, 4), np.uint8)), "has shape (1, 5, 4)"),
    "colour": (png(np.zeros((4, 4, 3), np.uint8)), "is RGB, but grey"),
    "16 bits": (png(np.zeros((4, 4), np.uint16)), "more than 8 bits"),
    "transparent": (png(np.zeros((4, 4, 4), np.uint8)), "transparent"),
    "bomb": (bomb(), "more than 89,478,485 pixels"),
    "JSON cut off": (b'{"shape": [1', "body"),
    "other JSON": (b'{"image": "x"}', "shape"),
    "bytes missing": (floats(1, shape=[2, 1, 4, 4]), "the shape needs"),
    "dtype": (floats(1, dtype="float64"), "dtype"),
    "base64": (floats(1, images="$"), "images"),
    "shape": (floats(1, 1, 4, 5), "has shape (1, 4, 5)"),
    "no image": (floats(1, shape=[0, 1, 4, 4]), "shape"),
    "huge": (floats(1, shape=[2**40, 1, 4, 4]), "the shape needs"),
    "range": (floats(1, value=2.0), "[0, 1]"),
    "NaN": (floats(1, value=np.nan), "NaN"),
}  # fmt: skip


@pytest.mark.parametrize("path", ["/predict", "/certify"])
@pytest.mark.parametrize("case", BAD)
def test_what_is_not_an_image_is_refused_in_one_line_and_the_next_is_answered(
    server: SmoothedServer, case: str, path: str, capfd: pytest.CaptureFixture[str]
) -> None:
    body, said = BAD[case]
    status, found = ask(server, "POST", path, body)
    assert (status, set(found)) == (400, {"error"})
    assert said in found["error"]
    assert "\n" not in found["error"]
    assert ask(server, "POST", "/predict", png())[0] == 200
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("path", MOST_IMAGES)
def test_a_request_has_a_limited_number_of_images(server: SmoothedServer, path: str) -> None:
    status, found = ask(server, "POST", path, floats(MOST_IMAGES[path] + 1))
    assert status == 400
    assert (
        f"{MOST_IMAGES[path] + 1} images; a request may have {MOST_IMAGES[path]}" in found["error"]
    )


def test_a_request_has_a_limited_size(server: SmoothedServer) -> None:
    connection = http.client.HTTPConnection(*server.server_address[:2], timeout=300)  # type: ignore[arg-type]
    connection.putrequest("POST", "/certify")
    connection.putheader("Content-Length", str(MAX_REQUEST_BYTES + 1))
    connection.endheaders()
    assert connection.getresponse().status == 413
    assert ask(server, "POST", "/certify", None, **{"Transfer-Encoding": "chunked"})[0] == 411


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/certify", 405),
        ("POST", "/", 405),
        ("GET", "/etc/passwd", 404),
        ("POST", "/x", 404),
        ("PUT", "/certify", 405),
    ],
)
def test_other_paths_and_methods_are_refused(
    server: SmoothedServer, method: str, path: str, status: int
) -> None:
    found, answer = ask(server, method, path, png() if method == "POST" else None)
    assert (found, set(answer)) == (status, {"error"})


def test_what_a_path_takes_instead_is_said(server: SmoothedServer) -> None:
    connection = http.client.HTTPConnection(*server.server_address[:2], timeout=300)  # type: ignore[arg-type]
    for method, path, allowed in (("DELETE", "/", "GET"), ("GET", "/predict", "POST")):
        connection.request(method, path)
        response = connection.getresponse()
        assert f"takes {allowed}, not {method}" in json.loads(response.read())["error"]
        assert response.headers["Allow"] == allowed


def test_head_gets_the_headers_of_get_alone(server: SmoothedServer) -> None:
    connection = http.client.HTTPConnection(*server.server_address[:2], timeout=300)  # type: ignore[arg-type]
    for method in ("HEAD", "GET"):
        connection.request(method, "/")
        response = connection.getresponse()
        content = response.read()
        assert response.status == 200
        assert int(response.headers["Content-Length"]) > 100
    assert len(content) == int(response.headers["Content-Length"])


@pytest.mark.parametrize("request_line", [b"BREW / HTTP/1.1", b"nonsense", b"GET / HTTP/9.9"])
def test_what_is_no_http_is_refused_as_json(server: SmoothedServer, request_line: bytes) -> None:
    with socket.create_connection(server.server_address[:2]) as client:  # type: ignore[arg-type]
        client.sendall(request_line + b"\r\nHost: x\r\n\r\n")
        answer = b"".join(iter(lambda: client.recv(2**16), b""))
    content = answer.rpartition(b"\r\n\r\n")[2]
    assert set(json.loads(content)) == {"error"}
    assert ask(server, "GET", "/")[0] == 200


def test_with_a_token_only_its_bearer_is_answered(
    server: SmoothedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, "s3cr3t")
    for method, path in (("GET", "/"), ("POST", "/predict"), ("POST", "/certify")):
        body = png() if method == "POST" else None
        for wrong in ({}, {"Authorization": "Bearer s3cr3"}, {"Authorization": "s3cr3t"}):
            status, found = ask(server, method, path, body, **wrong)
            assert (status, "s3cr3t" in found["error"]) == (401, False)
        assert ask(server, method, path, body, Authorization="Bearer s3cr3t")[0] == 200
    # Not even the body of others is read.
    connection = http.client.HTTPConnection(*server.server_address[:2], timeout=300)  # type: ignore[arg-type]
    connection.putrequest("POST", "/certify")
    connection.putheader("Content-Length", str(MAX_REQUEST_BYTES))
    connection.endheaders()
    assert connection.getresponse().status == 401


def test_when_too_many_wait_the_others_are_told_to_come_back(
    server: SmoothedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server._places = threading.BoundedSemaphore(1)
    entered, leave = threading.Event(), threading.Event()
    predict = server._smoothed.predict

    def slow(images: Any) -> Any:
        entered.set()
        leave.wait(60)
        return predict(images)

    monkeypatch.setattr(server._smoothed, "predict", slow)
    first = threading.Thread(target=ask, args=(server, "POST", "/predict", png()))
    first.start()
    assert entered.wait(60)
    status, found = ask(server, "POST", "/certify", png())
    assert (status, "waiting already" in found["error"]) == (503, True)
    leave.set()
    first.join()
    assert ask(server, "POST", "/certify", png())[0] == 200


def test_a_classifier_that_fails_is_said_and_the_server_goes_on(
    server: SmoothedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(images: Any) -> Any:
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr(server._smoothed, "certify", fails)
    status, found = ask(server, "POST", "/certify", png())
    assert (status, found["error"]) == (500, "the classifier failed: CUDA out of memory")
    assert ask(server, "POST", "/predict", png())[0] == 200


def test_an_endpoint_behind_it_that_fails_is_no_fault_of_the_client(
    server: SmoothedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(images: Any) -> Any:
        raise InputError("http://inside/ cannot be reached", field="classifier")

    monkeypatch.setattr(server._smoothed, "certify", fails)
    assert ask(server, "POST", "/certify", png())[0] == 502


def test_text_chunks_of_an_image_do_not_count_as_pixels(server: SmoothedServer) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "x" * 1000)
    assert ask(server, "POST", "/predict", png(pnginfo=info))[0] == 200


def test_the_documentation_names_the_limits() -> None:
    text = (ROOT / "docs/deploying.md").read_text()
    for number in (*MOST_IMAGES.values(), smoothed_server.MOST_WAITING, MAX_REQUEST_BYTES // 2**20):
        assert re.search(rf"\b{number}\b", text)
