"""One request to an endpoint: repeated while that may help, and explained when it fails."""

from __future__ import annotations

import os
import threading
import time
from typing import Any

import requests
from pydantic import BaseModel, ValidationError
from urllib3 import Retry
from urllib3.exceptions import HTTPError, InvalidHeader, NewConnectionError, TimeoutError

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
            content = _content(response, most_bytes if ok else REFUSAL_BYTES, end)
    except requests.exceptions.SSLError as error:
        raise InputError(
            f"no secure connection to {url}: {one_line(_cause(error))}; check the address, or "
            "name the authority's certificate in REQUESTS_CA_BUNDLE",
            field="classifier",
        ) from error
    except _TooSlowError:
        return None, b"", f"did not finish its answer within {PATIENCE * timeout:g} s"
    except (requests.RequestException, HTTPError) as error:
        return None, b"", _described(error, timeout)
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


class _TooSlowError(Exception):
    """An answer that takes too long, although its sender is never silent for long."""


def _content(response: requests.Response, most_bytes: int, end: float) -> bytes:
    """What the server sends; if that is more than `most_bytes`, no more than its beginning."""
    content = bytearray()
    # Not whole chunks, which a server could send a byte at a time.
    while len(content) <= most_bytes and (part := response.raw.read1(CHUNK, decode_content=True)):
        content += part
        if time.monotonic() > end:
            raise _TooSlowError
    return bytes(content)


def _session() -> requests.Session:
    # Neither threads nor a forked process may share connections.
    if getattr(_LOCAL, "process", None) != os.getpid():
        _LOCAL.session, _LOCAL.process = requests.Session(), os.getpid()
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


def _described(error: requests.RequestException | HTTPError, timeout: float) -> str:
    cause = _cause(error)
    # In urllib3 a refused connection is a kind of time-out, so it is checked first.
    if isinstance(cause, NewConnectionError):
        return "cannot be reached: nothing listens there"
    if isinstance(error, requests.Timeout) or isinstance(cause, TimeoutError):
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
