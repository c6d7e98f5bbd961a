"""A small HTTP server that answers by a script, honest or hostile."""

import base64
import json
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.background import in_background
from trainables.black_box.json_server import ClosingServer
from trainables.errors import InputError

DESCRIPTION = {
    "protocol": 1, "classes": 3, "image_shape": [1, 2, 2], "returns": "logits", "model": "m1",
}  # fmt: skip
IMAGES = torch.rand((5, 1, 2, 2), generator=torch.Generator().manual_seed(0))


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


def trickle(handler: BaseHTTPRequestHandler) -> None:
    """A byte of the body at a time, never silent for long, and never done."""
    handler.send_response(200)
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    with suppress(OSError):
        for _ in range(100_000):
            handler.wfile.write(b" ")
            time.sleep(0.02)


def trickle_headers(handler: BaseHTTPRequestHandler) -> None:
    """Like `trickle`, but in a header that never ends."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
    with suppress(OSError):
        for _ in range(60_000):
            handler.wfile.write(b"x")
            time.sleep(0.02)


def bomb(handler: BaseHTTPRequestHandler) -> None:
    """An answer of half a megabyte that becomes 128."""
    packed = zlib.compressobj(level=1, wbits=31)
    body = b"".join(packed.compress(bytes(2**20)) for _ in range(128)) + packed.flush()
    reply(body, Content_Encoding="gzip")(handler)


def first_pixels(handler: Any) -> None:
    """The honest endpoint: an image's logits are its first three pixels."""
    pixels = asked_pixels(handler.server.requests[-1])
    reply({"model": "m1", "logits": pixels.reshape(len(pixels), -1)[:, :3].tolist()})(handler)


def asked_pixels(request: dict[str, Any]) -> np.ndarray[Any, Any]:
    question = json.loads(request["body"])
    assert question["dtype"] == "float32"
    return np.frombuffer(base64.b64decode(question["images"]), "<f4").reshape(question["shape"])


class Scripted(ClosingServer):
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
    # An answer goes out as two writes, of which the second would wait for the client.
    disable_nagle_algorithm = True
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
    server = Scripted(list(script) or [first_pixels], description)
    # A client that gave up is no error of the test.
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    with in_background(server):
        yield server


def refusal(action: Callable[[], object], *parts: str) -> str:
    """The one line that `action` is refused with; it names the flag and holds `parts`."""
    with pytest.raises(InputError) as caught:
        action()
    message = str(caught.value)
    assert message.startswith("classifier: ")
    assert "\n" not in message
    assert all(part in message for part in parts), message
    return message
