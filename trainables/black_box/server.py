"""The server of the reference endpoint. The protocol is in docs/black_box.md."""

from __future__ import annotations

import hmac
import math
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Base64Bytes, BaseModel, PositiveInt, ValidationError
from torch import Tensor, nn

from trainables.black_box.endpoint import MAX_IMAGES, Answer, Description
from trainables.black_box.exchange import TOKEN_VARIABLE
from trainables.errors import InputError
from trainables.weights.checkpoint import weights_hash

MAX_REQUEST_BYTES = 64 * 2**20
# Seconds after which a silent client loses its connection.
IDLE = 60.0
# Status codes for requests whose body was not read, and the seconds a client has to see one.
UNREAD = (411, 413)
LINGER = 5.0


class Question(BaseModel, frozen=True, strict=True):
    """A POST: `images` are little-endian floats in C order, as base64."""

    shape: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt]
    dtype: Literal["float32"]
    images: Base64Bytes


class Refused(Exception):
    """A request that gets an error status; the message is one line that says why."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class ClosingServer(ThreadingHTTPServer):
    """A server that, when it is closed, ends its connections and waits for their threads.

    A thread that still uses tensors when the interpreter exits would abort the process.
    """

    daemon_threads = False

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._connections: set[socket.socket] = set()
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a thread of its own."""
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """End a connection."""
        self._connections.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        """End all connections, and stop listening."""
        for connection in list(self._connections):
            with suppress(OSError):  # it has ended already
                connection.shutdown(socket.SHUT_RDWR)
        super().server_close()


class ClassifierServer(ClosingServer):
    """Answers for `classifier`, which maps images [batch, C, H, W] to logits [batch, classes].

    Clients can connect as soon as it exists; they are answered while `serve_forever` runs. If the
    environment holds DECROP_ENDPOINT_TOKEN, they must send that bearer token.

    Raises:
        InputError: when the classifier does not accept images of `image_shape`.
        OSError: when the address cannot be listened on.
    """

    def __init__(
        self,
        classifier: nn.Module,
        image_shape: tuple[int, int, int],
        address: tuple[str, int],
        *,
        labels_only: bool = False,
    ) -> None:
        self._classifier = classifier.eval()
        # Each connection has its own thread, but all share one model and its memory.
        self._lock = threading.Lock()
        self.description = Description(
            classes=_count_classes(classifier, image_shape),
            image_shape=image_shape,
            returns="labels" if labels_only else "logits",
            model=weights_hash(classifier)[:16],
        )
        super().__init__(address, _Handler)

    @property
    def url(self) -> str:
        """Where the endpoint is."""
        host, port = self.server_address[:2]
        return f"http://{host!s}:{port}/"

    def answer(self, images: Tensor) -> Answer:
        """The answer for images [n, C, H, W].

        Raises:
            Refused: for images that the classifier cannot answer.
        """
        if tuple(images.shape[1:]) != self.description.image_shape:
            raise Refused(400, f"shape: images are {list(self.description.image_shape)} here")
        if not images.isfinite().all():
            raise Refused(400, "images: a pixel is not finite")
        with self._lock, torch.inference_mode():
            logits = torch.cat([self._classifier(part) for part in images.split(MAX_IMAGES)])
        if not logits.isfinite().all():
            raise Refused(400, "images: the logits of one are not finite")
        if self.description.returns == "labels":
            return Answer(model=self.description.model, labels=logits.argmax(dim=1).tolist())
        return Answer(model=self.description.model, logits=logits.float().tolist())

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print in one line how a connection failed, unless the client merely disconnected."""
        error = sys.exception()
        if not isinstance(error, ConnectionError):
            print(f"{client_address[0]}: {type(error).__name__}: {error}", file=sys.stderr)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = IDLE
    # Headers and body are two writes; the second would wait until the first is acknowledged.
    disable_nagle_algorithm = True
    server: ClassifierServer

    def do_GET(self) -> None:
        self._reply(lambda body: self.server.description)

    def do_POST(self) -> None:
        self._reply(lambda body: self.server.answer(_images(body)))

    def log_message(self, format: str, *arguments: Any) -> None:
        """Do not log requests: a search sends thousands."""

    def _reply(self, answer: Callable[[bytes], BaseModel]) -> None:
        status, headers = 200, {}
        try:
            # Read before anything is refused: the next request begins after this one's body.
            body = self._body()
            self._admit()
            text = answer(body).model_dump_json(exclude_none=True)
        except Refused as refused:
            status, text = refused.status, _Error(error=str(refused)).model_dump_json()
        except RuntimeError as error:
            status = 500
            text = _Error(error=f"the classifier failed: {error}").model_dump_json()
        if status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        content = text.encode()
        headers |= {"Content-Type": "application/json", "Content-Length": str(len(content))}
        if self.close_connection:
            headers["Connection"] = "close"
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)
        if status in UNREAD:
            self._linger()

    def _linger(self) -> None:
        """Read what a client still sends, for a while, so that it can read the answer.

        A connection that is closed with unread bytes is reset, and the answer is lost with it.
        """
        self.connection.shutdown(socket.SHUT_WR)
        self.connection.settimeout(LINGER)
        end = time.monotonic() + LINGER
        with suppress(OSError):
            while time.monotonic() < end and self.rfile.read1(2**16):
                pass

    def _body(self) -> bytes:
        length = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers or not length.isdecimal():
            self.close_connection = True
            raise Refused(411, "send the body in one piece, with its Content-Length")
        if int(length) > MAX_REQUEST_BYTES:
            self.close_connection = True
            raise Refused(413, f"the body exceeds {MAX_REQUEST_BYTES} bytes; send fewer images")
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            raise ConnectionError("the client disconnected within its request")
        return body

    def _admit(self) -> None:
        token = os.environ.get(TOKEN_VARIABLE, "").strip()
        given = self.headers.get("Authorization", "")
        if token and not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
            raise Refused(401, "the bearer token is missing or wrong")
        if self.path.partition("?")[0] != "/":
            raise Refused(404, "there is nothing here; the endpoint is /")


class _Error(BaseModel):
    error: str


def _images(body: bytes) -> Tensor:
    """The images of a POST: float32 [n, C, H, W]."""
    try:
        question = Question.model_validate_json(body)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "body"
        raise Refused(400, f"{where}: {first['msg']}") from error
    wanted = 4 * math.prod(question.shape)
    if len(question.images) != wanted:
        raise Refused(400, f"images: {len(question.images)} bytes, but the shape needs {wanted}")
    pixels = np.frombuffer(question.images, "<f4").astype(np.float32)
    return torch.from_numpy(pixels).reshape(question.shape)


def _count_classes(classifier: nn.Module, image_shape: tuple[int, int, int]) -> int:
    try:
        with torch.inference_mode():
            logits: Tensor = classifier(torch.zeros((1, *image_shape)))
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"the classifier does not accept images of shape {image_shape} (channels, height, "
            "width); pass the one it was made for",
            field="image_shape",
        ) from error
    return logits.shape[1]
