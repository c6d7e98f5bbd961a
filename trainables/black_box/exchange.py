"""One request to an endpoint: repeated while that may help, and explained when it fails."""

from __future__ import annotations

import io
import math
import os
import socket
import threading
import time
from http.client import HTTPResponse
from typing import Any

import requests
from pydantic import BaseModel, ValidationError
from requests.adapters import HTTPAdapter
from urllib3 import Retry
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError, InvalidHeader, NewConnectionError, TimeoutError

from trainables.black_box.timely import TimelyStream
from trainables.errors import InputError

TOKEN_VARIABLE = "DECROP_ENDPOINT_TOKEN"
RETRIED = (429, 500, 502, 503, 504)
BACKOFF = 0.5
LONGEST_PAUSE = 60
# How much longer an answer may take in all than its sender may be silent.
PATIENCE = 4
CHUNK = 2**16
# The most that is read of a message that is no answer.
REFUSAL_BYTES = 2**16

_LOCAL = threading.local()


def exchange(
    url: str, question: dict[str, Any] | None, timeout: float, tries: int, most_bytes: int
) -> bytes:
    """The answer with status 200 to a POST of `question`, or to a GET; queries are idempotent.

    `timeout` is in seconds of silence; in all, an answer may take `PATIENCE` times as long.

    Raises:
        InputError: when there is none, or it is longer than `most_bytes` when decompressed.
    """
    # Not by an HTTPAdapter, which does not retry when the connection is lost within the body.
    retry = Retry(
        total=tries - 1,
        backoff_factor=BACKOFF,
        backoff_jitter=BACKOFF,
        retry_after_max=LONGEST_PAUSE,
    )
    while True:
        response, content, failure = _attempt(url, question, timeout, most_bytes)
        if not failure:
            return content
        if not retry.total:
            raise InputError(
                f"{url} {failure} (tries: {tries}); check that the endpoint is running",
                field="classifier",
            )
        retry = retry.increment()
        try:
            retry.sleep(None if response is None else response.raw)
        except InvalidHeader:
            retry.sleep()


def one_line(said: object) -> str:
    """At most 200 printable characters of an untrusted text, without the token."""
    text, token = str(said), _token()
    if token:
        text = text.replace(token, "***")
    # Backticks would be read as names of parameters.
    text = text.replace("`", "'")
    printable = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(printable.split())[:200]


class _Refusal(BaseModel):
    error: str


def _attempt(
    url: str, question: dict[str, Any] | None, timeout: float, most_bytes: int
) -> tuple[requests.Response | None, bytes, str]:
    """The response, its content, and the reason to try again: "" when it is the answer."""
    end = time.monotonic() + PATIENCE * timeout
    try:
        with _session().request(
            "GET" if question is None else "POST",
            url,
            json=question,
            timeout=timeout,
            auth=_with_token,
            allow_redirects=False,
            stream=True,
        ) as response:
            ok = response.status_code == 200
            content = _content(response, most_bytes if ok else REFUSAL_BYTES)
    except requests.exceptions.SSLError as error:
        raise InputError(
            f"no secure connection to {url}: {one_line(_cause(error))}; check the address, or "
            "name the authority's certificate in REQUESTS_CA_BUNDLE",
            field="classifier",
        ) from error
    except (requests.RequestException, HTTPError) as error:
        return None, b"", _described(error, timeout, late=time.monotonic() > end)
    if ok and len(content) > most_bytes:
        raise InputError(
            f"{url} sent more than {most_bytes:,} bytes, which no answer needs; "
            "docs/black_box.md says what is expected",
            field="classifier",
        )
    if ok:
        return response, content, ""
    failure = _refusal(response, content)
    if response.status_code not in RETRIED:
        raise InputError(f"{url} {failure}", field="classifier")
    return response, content, failure


def _content(response: requests.Response, most_bytes: int) -> bytes:
    """What the server sends; if that is more than `most_bytes`, no more than its beginning."""
    content = bytearray()
    while len(content) <= most_bytes and (part := response.raw.read1(CHUNK, decode_content=True)):
        content += part
    return bytes(content)


class _TimelyResponse(HTTPResponse):
    """An answer that may take `PATIENCE` times as long as its sender may be silent."""

    def __init__(self, sock: socket.socket, *arguments: Any, **options: Any) -> None:
        super().__init__(sock, *arguments, **options)
        self.fp.close()
        silence = sock.gettimeout()
        end = math.inf if silence is None else time.monotonic() + PATIENCE * silence
        self.fp = io.BufferedReader(TimelyStream(sock, end))


class _Http(HTTPConnection):
    response_class = _TimelyResponse


class _Https(HTTPSConnection):
    response_class = _TimelyResponse


class _Adapter(HTTPAdapter):
    """Connections whose answers have a deadline, also those through a proxy."""

    def get_connection_with_tls_context(self, *arguments: Any, **options: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*arguments, **options)
        pool.ConnectionCls = _Https if pool.scheme == "https" else _Http
        return pool


def _session() -> requests.Session:
    # Neither threads nor a forked process may share connections.
    if getattr(_LOCAL, "process", None) != os.getpid():
        _LOCAL.session, _LOCAL.process = requests.Session(), os.getpid()
        for scheme in ("http://", "https://"):
            _LOCAL.session.mount(scheme, _Adapter())
    session: requests.Session = _LOCAL.session
    return session


def _token() -> str:
    return os.environ.get(TOKEN_VARIABLE, "").strip()


def _with_token(request: requests.PreparedRequest) -> requests.PreparedRequest:
    token = _token()
    if not (token.isascii() and token.isprintable()):
        raise InputError(f"{TOKEN_VARIABLE}: it holds characters that a header cannot carry")
    if token:
        request.headers["Authorization"] = f"Bearer {token}"
    return request


def _cause(error: requests.RequestException | HTTPError) -> object:
    """The error of urllib3, which requests may have wrapped."""
    if isinstance(error, HTTPError):
        return error
    wrapped = error.args[0] if error.args else error
    return getattr(wrapped, "reason", wrapped)


def _described(error: requests.RequestException | HTTPError, timeout: float, *, late: bool) -> str:
    cause = _cause(error)
    # In urllib3 a refused connection is a kind of time-out, so it is checked first.
    if isinstance(cause, NewConnectionError):
        return "cannot be reached: nothing listens there"
    if isinstance(error, requests.Timeout) or isinstance(cause, TimeoutError):
        if late:
            return f"did not finish its answer within {PATIENCE * timeout:g} s"
        return f"did not answer within {timeout:g} s"
    return f"broke off the connection ({type(cause).__name__})"


def _refusal(response: requests.Response, content: bytes) -> str:
    if response.is_redirect:
        return f"redirects to {one_line(response.headers['location'])}; pass that address"
    try:
        said = _Refusal.model_validate_json(content).error
    except ValidationError:
        said = content[:1000].decode(errors="replace") or response.reason
    advice = f"; set {TOKEN_VARIABLE}" if response.status_code in {401, 403} else ""
    return f"answered {response.status_code}: {one_line(said)}{advice}"
