"""Servers that answer HTTP with JSON: who may ask, how much, and what a refused client is told."""

from __future__ import annotations

import hmac
import os
import socket
import sys
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from pydantic import BaseModel

from trainables.black_box.exchange import TOKEN_VARIABLE

MAX_REQUEST_BYTES = 64 * 2**20
# Seconds after which a silent client loses its connection.
IDLE = 60.0
# Status codes for requests whose body was not read, and the seconds a client has to see one.
UNREAD = (401, 411, 413)
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
        """Print in one line how a connection failed, unless the client merely disconnected."""
        error = sys.exception()
        if not isinstance(error, ConnectionError):
            print(f"{client_address[0]}: {type(error).__name__}: {error}", file=sys.stderr)


class JsonHandler(BaseHTTPRequestHandler):
    """Answers a connection's requests with JSON; a subclass says what, in `respond`."""

    protocol_version = "HTTP/1.1"
    timeout = IDLE
    # Headers and body are two writes; the second would wait until the first is acknowledged.
    disable_nagle_algorithm = True

    def respond(self, method: str, path: str, body: bytes) -> BaseModel:
        """The answer to a request with a `path` that has no query.

        Raises:
            Refused: for a request that gets an error status.
        """
        raise NotImplementedError

    def do_GET(self) -> None:
        """Answer a GET."""
        self._reply("GET")

    def do_POST(self) -> None:
        """Answer a POST."""
        self._reply("POST")

    def log_message(self, format: str, *arguments: Any) -> None:
        """Do not log requests: a search sends thousands."""

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer what is no GET or POST, or no HTTP, as JSON as well."""
        self.close_connection = True
        self._send(code, _Error(error=message or self.responses[code][0]))

    def _reply(self, method: str) -> None:
        try:
            self._admit()
            # Read before anything else is refused: the next request begins after this one's body.
            body = self._body()
            path = self.path.partition("?")[0]
            self._send(200, self.respond(method, path, body))
        except Refused as refused:
            self._send(refused.status, _Error(error=str(refused)))
        except RuntimeError as error:
            self._send(500, _Error(error=f"the classifier failed: {error}"))

    def _send(self, status: int, answer: BaseModel) -> None:
        content = answer.model_dump_json(exclude_none=True).encode()
        headers = {"Content-Type": "application/json", "Content-Length": str(len(content))}
        if status == 401:
            headers["WWW-Authenticate"] = "Bearer"
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
            # Without its body: nobody but the holders of the token fills the memory.
            self.close_connection = True
            raise Refused(401, "the bearer token is missing or wrong")


class _Error(BaseModel):
    error: str
