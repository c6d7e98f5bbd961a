"""A classifier behind an HTTP endpoint. The protocol is in docs/black_box.md."""

from __future__ import annotations

import base64
import json
import os
import threading
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

import requests
import torch
import torch.nn.functional as F
from pydantic import BaseModel, Field, FiniteFloat, PositiveInt, ValidationError
from torch import Tensor
from urllib3 import Retry
from urllib3.exceptions import InvalidHeader, NewConnectionError, TimeoutError

from trainables.errors import InputError
from trainables.models.classifiers import IdentifiedClassifier

TOKEN_VARIABLE = "DECROP_ENDPOINT_TOKEN"
# The most that one request holds: images, and bytes of their pixels.
MAX_IMAGES = 256
MAX_PIXEL_BYTES = 8 * 2**20
# Seconds of silence after which an attempt is given up, and the number of attempts for a query.
TIMEOUT = 30.0
TRIES = 6
# Fewer at the start, where a user who mistyped the address is waiting.
DESCRIPTION_TRIES = 3
RETRIED = (429, 500, 502, 503, 504)
BACKOFF = 0.5
LONGEST_PAUSE = 60

_LOCAL = threading.local()


class Description(BaseModel, frozen=True, strict=True):
    """How an endpoint describes itself."""

    protocol: Literal[1] = 1
    classes: Annotated[int, Field(ge=2)]
    image_shape: tuple[PositiveInt, PositiveInt, PositiveInt]
    returns: Literal["logits", "labels"]
    model: Annotated[str, Field(min_length=1)]


class Answer(BaseModel, frozen=True, strict=True):
    """An endpoint's answer for n images: logits [n][classes], or n labels."""

    model: str
    logits: list[list[FiniteFloat]] | None = None
    labels: list[int] | None = None


class _Refusal(BaseModel):
    error: str


_Message = TypeVar("_Message", Description, Answer)


class HttpClassifier(IdentifiedClassifier):
    """The classifier at `url`: images [batch, C, H, W] in, logits or one-hot labels out.

    It holds neither connection nor token, so that it can be pickled. Its only weight is `identity`,
    which differs between endpoints and between models behind one endpoint.
    """

    identity: Tensor

    def __init__(
        self, url: str, description: Description, *, timeout: float = TIMEOUT, tries: int = TRIES
    ) -> None:
        super().__init__()
        self.url, self.description = url, description
        self._timeout, self._tries = timeout, tries
        identity = json.dumps((url, description.model, description.returns)).encode()
        self.register_buffer("identity", torch.tensor(list(identity), dtype=torch.uint8))

    @classmethod
    def connect(cls, url: str, *, timeout: float = TIMEOUT, tries: int = TRIES) -> HttpClassifier:
        """The classifier at `url`, as it describes itself.

        `timeout` is in seconds of silence; `tries` is how often a query is sent before giving up.

        Raises:
            InputError: when nothing answers there, or not according to the protocol.
        """
        url = _checked(url)
        response = _exchange(url, None, timeout, min(tries, DESCRIPTION_TRIES))
        return cls(url, _parsed(Description, response, url), timeout=timeout, tries=tries)

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return self.description.classes

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Logits, or one-hot labels where the endpoint gives no more: float32 [batch, classes].

        An image with a pixel that is not finite is not sent; all its logits are NaN.

        Raises:
            InputError: for images of a different shape, or when the endpoint fails.
        """
        if tuple(images.shape[1:]) != self.description.image_shape:
            raise InputError(
                f"{self.url} takes images of shape {self.description.image_shape} (channels, "
                f"height, width), not {tuple(images.shape[1:])}",
                field="classifier",
            )
        finite = images.flatten(1).isfinite().all(dim=1)
        answers = torch.full((len(images), self.num_classes), torch.nan, device=images.device)
        if finite.any():
            size = max(1, min(MAX_IMAGES, MAX_PIXEL_BYTES // (4 * images[0].numel())))
            parts = [self._ask(part) for part in images[finite].split(size)]
            answers[finite] = torch.cat(parts).to(images.device)
        return answers

    def extra_repr(self) -> str:
        """What `repr` shows: the address and the model."""
        return f"{self.url!r}, model={self.description.model!r}"

    def _ask(self, images: Tensor) -> Tensor:
        pixels = images.cpu().numpy().astype("<f4").tobytes()
        question = {
            "shape": list(images.shape),
            "dtype": "float32",
            "images": base64.b64encode(pixels).decode(),
        }
        response = _exchange(self.url, question, self._timeout, self._tries)
        answer = _parsed(Answer, response, self.url)
        if answer.model != self.description.model:
            raise InputError(
                f"the model behind {self.url} changed from {self.description.model!r} to "
                f"{_one_line(answer.model)!r}; start a new run for it",
                field="classifier",
            )
        return self._tensor(answer, len(images))

    def _tensor(self, answer: Answer, wanted: int) -> Tensor:
        classes, returns = self.num_classes, self.description.returns
        rows = answer.logits if returns == "logits" else answer.labels
        if rows is None:
            raise _protocol_error(self.url, f"promised {returns} and sent none")
        if len(rows) != wanted:
            raise _protocol_error(self.url, f"gave {len(rows)} {returns} for {wanted} images")
        if returns == "labels":
            if not all(0 <= label < classes for label in answer.labels or ()):
                raise _protocol_error(self.url, f"gave a label outside 0 to {classes - 1}")
            return F.one_hot(torch.tensor(rows), classes).float()
        if any(len(row) != classes for row in answer.logits or ()):
            raise _protocol_error(self.url, f"did not give {classes} logits for every image")
        logits = torch.tensor(rows, dtype=torch.float32)
        if not logits.isfinite().all():
            raise _protocol_error(self.url, "gave logits that exceed 32-bit floats")
        return logits


def _checked(url: str) -> str:
    """The URL in its normal form, so that an endpoint has only one."""
    try:
        normal = str(requests.Request("GET", url).prepare().url)
        parts = urlsplit(normal)
        (parts.hostname or "").encode("idna")
    except (requests.RequestException, UnicodeError) as error:
        problem = "the URL is malformed; pass http://HOST:PORT/"
        raise InputError(problem, field="classifier") from error
    if parts.username is not None:
        raise InputError(
            f"the URL of {parts.hostname} holds a user name or password, which would be written to "
            f"the run folder; pass a token in {TOKEN_VARIABLE} instead",
            field="classifier",
        )
    if parts.scheme not in {"http", "https"}:
        raise InputError(f"{normal} is not an http:// or https:// URL", field="classifier")
    return normal


def _exchange(
    url: str, question: dict[str, Any] | None, timeout: float, tries: int
) -> requests.Response:
    """The answer with status 200 to a POST of `question`, or to a GET; queries are idempotent."""
    # Not by an HTTPAdapter, which does not retry when the connection is lost within the body.
    retry = Retry(
        total=tries - 1,
        backoff_factor=BACKOFF,
        backoff_jitter=BACKOFF,
        retry_after_max=LONGEST_PAUSE,
    )
    while True:
        response, failure = _attempt(url, question, timeout)
        if response is not None and not failure:
            return response
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


def _attempt(
    url: str, question: dict[str, Any] | None, timeout: float
) -> tuple[requests.Response | None, str]:
    """The response, and the reason to try again: "" when it is the answer."""
    try:
        response = _session().request(
            "GET" if question is None else "POST",
            url,
            json=question,
            timeout=timeout,
            auth=_with_token,
            allow_redirects=False,
        )
    except requests.exceptions.SSLError as error:
        raise InputError(
            f"no secure connection to {url}: {_one_line(_cause(error))}; check the address, or "
            "name the authority's certificate in REQUESTS_CA_BUNDLE",
            field="classifier",
        ) from error
    except requests.RequestException as error:
        return None, _described(error, timeout)
    if response.status_code == 200:
        return response, ""
    failure = _refusal(response)
    if response.status_code not in RETRIED:
        raise InputError(f"{url} {failure}", field="classifier")
    return response, failure


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


def _parsed(kind: type[_Message], response: requests.Response, url: str) -> _Message:
    try:
        return kind.model_validate_json(response.content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the answer"
        # Without its cause, which would quote the answer.
        failure = f"does not follow the protocol: {where}: {first['msg']}"
        raise _protocol_error(url, failure) from None


def _protocol_error(url: str, failure: str) -> InputError:
    return InputError(
        f"{url} {_one_line(failure)}; docs/black_box.md says what is expected",
        field="classifier",
    )


def _cause(error: requests.RequestException) -> object:
    """The error of urllib3 that requests has wrapped."""
    wrapped = error.args[0] if error.args else error
    return getattr(wrapped, "reason", wrapped)


def _described(error: requests.RequestException, timeout: float) -> str:
    cause = _cause(error)
    # In urllib3 a refused connection is a kind of time-out, so it is checked first.
    if isinstance(cause, NewConnectionError):
        return "cannot be reached: nothing listens there"
    if isinstance(error, requests.Timeout) or isinstance(cause, TimeoutError):
        return f"did not answer within {timeout:g} s"
    return f"broke off the connection ({type(cause).__name__})"


def _refusal(response: requests.Response) -> str:
    if response.is_redirect:
        return f"redirects to {_one_line(response.headers['location'])}; pass that address"
    try:
        said = _Refusal.model_validate_json(response.content).error
    except ValidationError:
        said = response.content[:1000].decode(errors="replace") or response.reason
    advice = f"; set {TOKEN_VARIABLE}" if response.status_code in {401, 403} else ""
    return f"answered {response.status_code}: {_one_line(said)}{advice}"


def _one_line(said: object) -> str:
    """At most 200 printable characters of an untrusted text, without the token."""
    text, token = str(said), _token()
    if token:
        text = text.replace(token, "***")
    # Backticks would be read as names of parameters.
    text = text.replace("`", "'")
    printable = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(printable.split())[:200]
