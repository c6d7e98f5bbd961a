"""The OpenAPI descriptions of the servers, compared with what they answer."""

import http.client
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch
from PIL import Image

from tests.support.answering import IMAGES, Linear, question, serving
from tests.support.background import in_background
from tests.support.exports import Constant, write_export
from trainables.black_box.exchange import TOKEN_VARIABLE
from trainables.black_box.json_server import MAX_REQUEST_BYTES, JsonServer
from trainables.black_box.openapi import ALWAYS
from trainables.black_box.smoothed_server import MOST_IMAGES, SmoothedServer
from trainables.smoothing import SmoothedClassifier

torch.set_num_threads(1)


@pytest.fixture
def smoothed(tmp_path: Path) -> Iterator[JsonServer]:
    export = write_export(tmp_path / "export", Constant())
    loaded = SmoothedClassifier.load(export, Constant(), seed=0)
    with in_background(SmoothedServer(loaded, ("127.0.0.1", 0))) as server:
        yield server


@pytest.fixture
def classifier() -> Iterator[JsonServer]:
    with serving(Linear().eval()) as server:
        yield server


@pytest.fixture
def labels() -> Iterator[JsonServer]:
    with serving(Linear().eval(), labels_only=True) as server:
        yield server


@pytest.fixture(params=["smoothed", "classifier", "labels"])
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> JsonServer:
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    server: JsonServer = request.getfixturevalue(request.param)
    return server


def ask(
    server: JsonServer, method: str, path: str, body: bytes | None = None, **headers: str
) -> tuple[int, str, Any]:
    """The status of an answer, its media type, and what it holds."""
    connection = http.client.HTTPConnection(*server.server_address[:2], timeout=300)  # type: ignore[arg-type]
    connection.putrequest(method, path)
    for name, value in {"Content_Length": str(len(body or b"")), **headers}.items():
        connection.putheader(name.replace("_", "-"), value)
    connection.endheaders(body)
    response = connection.getresponse()
    content = json.loads(response.read())
    connection.close()
    return response.status, str(response.headers["Content-Type"]), content


def described(server: JsonServer) -> dict[str, Any]:
    status, _, document = ask(server, "GET", "/openapi.json")
    assert status == 200
    found: dict[str, Any] = document
    return found


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def conforms(document: dict[str, Any], method: str, path: str, body: Any, **headers: str) -> int:
    """Ask, and compare the answer with what the description promises; returns the status."""
    server, content = body
    status, media, answer = ask(server, method, path, content, **headers)
    promised = document["paths"][path][method.lower()]["responses"][str(status)]["content"]
    check(document, promised[media]["schema"], answer)
    return status


def check(document: dict[str, Any], schema: dict[str, Any], instance: object) -> None:
    """Whether an instance is of a schema in the document, in which nothing more is allowed."""
    closed = json.loads(json.dumps(document["components"]["schemas"]))
    for model in closed.values():
        if "properties" in model:
            model["additionalProperties"] = False
    whole = {**schema, "components": {"schemas": closed}}
    jsonschema.validate(instance, whole, jsonschema.Draft202012Validator)


def test_it_is_a_description_of_openapi_3_1(server: JsonServer) -> None:
    document = described(server)
    assert document["openapi"] == "3.1.0"
    assert {"title", "version"} <= set(document["info"])
    assert len(list(operations(document))) > 2
    for _, _, operation in operations(document):
        assert operation["summary"]
        for status, response in operation["responses"].items():
            assert 200 <= int(status) < 600
            assert response["description"]
        assert {"200", *map(str, ALWAYS)} <= set(operation["responses"])
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    for reference in references(document):
        found: Any = document
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]


def references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        yield from (value for key, value in part.items() if key == "$ref")
    inner = part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
    for one in inner:
        yield from references(one)


def good(server: JsonServer) -> bytes:
    images = torch.full((2, 1, 4, 4), 0.5) if isinstance(server, SmoothedServer) else IMAGES
    return json.dumps(question(images)).encode()


def test_what_is_answered_is_as_described(server: JsonServer) -> None:
    document = described(server)
    asked = 0
    for method, path, operation in operations(document):
        body = good(server) if method == "POST" else None
        assert conforms(document, method, path, (server, body)) == 200
        if body is not None:
            schema = operation["requestBody"]["content"]["application/json"]["schema"]
            check(document, schema, json.loads(body))
        asked += 1
    assert asked == len(list(operations(document)))


def test_an_image_file_is_answered_as_described(smoothed: JsonServer) -> None:
    document, file = described(smoothed), io.BytesIO()
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(file, "PNG")
    for path in MOST_IMAGES:
        assert "image/*" in document["paths"][path]["post"]["requestBody"]["content"]
        assert conforms(document, "POST", path, (smoothed, file.getvalue())) == 200


@pytest.mark.parametrize("body", [b"", b"{}", b"no image", b"[" * 100_000, b'{"shape": [1'])
def test_what_is_refused_is_refused_as_described(server: JsonServer, body: bytes) -> None:
    document = described(server)
    for method, path, _ in operations(document):
        if method == "POST":
            assert conforms(document, method, path, (server, body)) == 400
        too_much = {"Content_Length": str(MAX_REQUEST_BYTES + 1)}
        assert conforms(document, method, path, (server, body), **too_much) == 413
        assert conforms(document, method, path, (server, body), Content_Length="x") == 411


def test_the_token_is_described_where_it_is_needed(
    server: JsonServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = described(server)
    assert document["security"] == []
    monkeypatch.setenv(TOKEN_VARIABLE, "s3cr3t")
    for method, path, _ in operations(document):
        assert conforms(document, method, path, (server, None)) == 401
    _, _, document = ask(server, "GET", "/openapi.json", Authorization="Bearer s3cr3t")
    (required,) = document["security"]
    (scheme,) = (document["components"]["securitySchemes"][name] for name in required)
    assert scheme == {"type": "http", "scheme": "bearer"}


def test_other_paths_and_methods_are_not_there(server: JsonServer) -> None:
    document = described(server)
    refusal = {"$ref": "#/components/schemas/ErrorAnswer"}
    for path, methods in document["paths"].items():
        for method in ("GET", "POST", "PUT", "DELETE", "TRACE", "QUERY"):
            if method.lower() not in methods:
                status, _, answer = ask(server, method, path)
                assert status == 405
                check(document, refusal, answer)
    for method in ("GET", "QUERY"):
        status, _, answer = ask(server, method, "/no/such")
        assert status == 404
        check(document, refusal, answer)
