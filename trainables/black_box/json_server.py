"""Servers that answer HTTP with JSON: who may ask, how much, and what a refused client is told."""

from __future__ import annotations

import hmac
import io
import os
import socket
import sys
import time
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

from pydantic import BaseModel

from trainables.black_box.exchange import TOKEN_VARIABLE
from trainables.black_box.openapi import ITSELF, ErrorAnswer, Operation, describe
from trainables.black_box.request_log import log_failure, log_request
from trainables.black_box.timely import TimelyStream

MAX_REQUEST_BYTES = 64 * 2**20
# Seconds after which a silent client loses its connection.
IDLE = 60.0
# Seconds in which the next request must have come: its headers, and then its body.
HEADERS, BODY = 60.0, 300.0
# Seconds that a client has to see why it is refused, while it still sends.
LINGER = 5.0


class Refused(Exception):
    """A request that gets an error status; the message is one line that says why."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class ClosingServer(ThreadingHTTPServer):
    """A server that, when it is closed, answers what it was asked and then ends its connections.

    It waits for their threads: one that still uses tensors when the interpreter exits would abort
    the process.
    """

    daemon_threads = False
    # Clients that connect at the same moment; by default a sixth would wait for seconds.
    request_queue_size = 256

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
        """Stop listening, and end each connection after the request that it waits for."""
        for connection in list(self._connections):
            with suppress(OSError):  # it has ended already
                connection.shutdown(socket.SHUT_RD)
        super().server_close()


class JsonServer(ClosingServer):
    """A server of `JsonHandler`s, which says in one line what fails."""

    @property
    def url(self) -> str:
        """Where it listens."""
        host, port = self.server_address[:2]
        return f"http://{host!s}:{port}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log in one line how a connection failed, unless the client merely disconnected."""
        error = sys.exception()
        if not isinstance(error, ConnectionError):
            log_failure(client_address[0], f"{type(error).__name__}: {error}")


class JsonHandler(BaseHTTPRequestHandler):
    """Answers a connection's requests with JSON; a subclass says what, in `respond`.

    A request is for one of `operations`, or for their description under `title`.
    """

    protocol_version = "HTTP/1.1"
    timeout = IDLE
    # Headers and body are two writes; the second would wait until the first is acknowledged.
    disable_nagle_algorithm = True
    title: ClassVar[str]
    operations: ClassVar[tuple[Operation, ...]]

    def respond(self, operation: Operation, body: bytes) -> tuple[BaseModel, int]:
        """The answer to a request, and for how many images it is.

        Raises:
            Refused: for a request that gets an error status.
        """
        raise NotImplementedError

    def do_GET(self) -> None:
        """Answer a request."""
        images = 0
        try:
            self._admit()
            # Read before anything else is refused: the next request begins after this one's body.
            body = self._body()
            operation = self._operation()
            if operation is ITSELF:
                answer: BaseModel = describe(self.title, self._known(), token=bool(_token()))
            else:
                answer, images = self.respond(operation, body)
        except Refused as refused:
            self._send(refused.status, ErrorAnswer(error=str(refused)))
        except RuntimeError as error:
            self._send(500, ErrorAnswer(error=f"the classifier failed: {error}"))
        else:
            self._send(200, answer, images)

    do_HEAD = do_POST = do_GET  # noqa: N815

    def setup(self) -> None:
        """Let what the client sends be read until a deadline."""
        super().setup()
        self.rfile.close()
        self._stream = TimelyStream(self.connection)
        self.rfile = io.BufferedReader(self._stream)

    def handle_one_request(self) -> None:
        """Wait for a request, and answer it."""
        self._stream.end = time.monotonic() + HEADERS
        self.command = self.path = ""
        self._begun, self._received = time.monotonic(), 0
        super().handle_one_request()

    def parse_request(self) -> bool:
        """Read the headers, after the first line has come."""
        self._begun = time.monotonic()
        return super().parse_request()

    def log_message(self, format: str, *arguments: Any) -> None:
        """Log no text: `_send` logs each request as JSON."""

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer what is no HTTP, or of another method, as JSON as well."""
        self.close_connection = True
        reason = message or self.responses[code][0]
        if code == HTTPStatus.NOT_IMPLEMENTED:
            try:
                self._operation()
            except Refused as refused:
                code, reason = refused.status, str(refused)
        self._send(code, ErrorAnswer(error=reason))

    def _known(self) -> tuple[Operation, ...]:
        return (*self.operations, ITSELF)

    def _here(self) -> list[Operation]:
        """The operations at the path of the request."""
        path = self.path.partition("?")[0]
        return [operation for operation in self._known() if operation.path == path]

    def _operation(self) -> Operation:
        here = self._here()
        if not here:
            paths = ", ".join(dict.fromkeys(operation.path for operation in self._known()))
            raise Refused(404, f"there is nothing here; the paths are {paths}")
        method = "GET" if self.command == "HEAD" else self.command
        for operation in here:
            if operation.method == method:
                return operation
        methods = " and ".join(operation.method for operation in here)
        raise Refused(405, f"{here[0].path} takes {methods}, not {self.command}")

    def _send(self, status: int, answer: BaseModel, images: int = 0) -> None:
        content = answer.model_dump_json(exclude_none=True).encode()
        headers = {"Content-Type": "application/json", "Content-Length": str(len(content))}
        if status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        if status == 405:
            headers["Allow"] = ", ".join(operation.method for operation in self._here())
        if self.close_connection:
            headers["Connection"] = "close"
        log_request(
            self.command or "", self.path, status,
            error=getattr(answer, "error", None) if status == 500 else None,
            images=images, received_bytes=self._received, sent_bytes=len(content),
            milliseconds=round(1000 * (time.monotonic() - self._begun), 1),
        )  # fmt: skip
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
        if self.close_connection and status != HTTPStatus.OK:
            self._linger()

    def _linger(self) -> None:
        """Read what a client still sends, for a while, so that it can read the answer.

        A connection that is closed with unread bytes is reset, and the answer is lost with it.
        """
        self.connection.shutdown(socket.SHUT_WR)
        self.connection.settimeout(LINGER)
        end = time.monotonic() + LINGER
        with suppress(OSError):
            while time.monotonic() < end and self.connection.recv(2**16):
                pass

    def _body(self) -> bytes:
        length = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers or not length.isdecimal():
            self.close_connection = True
            raise Refused(411, "send the body in one piece, with its Content-Length")
        if int(length) > MAX_REQUEST_BYTES:
            self.close_connection = True
            raise Refused(413, f"the body exceeds {MAX_REQUEST_BYTES} bytes; send fewer images")
        self._stream.end = time.monotonic() + BODY
        try:
            body = self.rfile.read(int(length))
        except TimeoutError:
            self.close_connection = True
            raise Refused(408, "the body did not arrive in time") from None
        self._received = len(body)
        if len(body) < int(length):
            raise ConnectionError("the client disconnected within its request")
        return body

    def _admit(self) -> None:
        token = _token()
        given = self.headers.get("Authorization", "")
        if token and not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
            # Without its body: nobody but the holders of the token fills the memory.
            self.close_connection = True
            raise Refused(401, "the bearer token is missing or wrong")


def _token() -> str:
    return os.environ.get(TOKEN_VARIABLE, "").strip()
