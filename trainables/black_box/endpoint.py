"""A classifier behind an HTTP endpoint. The protocol is in docs/black_box.md."""

from __future__ import annotations

import base64
import json
from typing import Annotated, Literal, TypeVar
from urllib.parse import urlsplit

import requests
import torch
import torch.nn.functional as F
from pydantic import BaseModel, Field, FiniteFloat, PositiveInt, ValidationError
from torch import Tensor

from trainables.black_box.exchange import TOKEN_VARIABLE, exchange, one_line
from trainables.errors import InputError
from trainables.models.classifiers import IdentifiedClassifier

# The most that one request holds: images, and bytes of their pixels.
MAX_IMAGES = 256
MAX_PIXEL_BYTES = 8 * 2**20
# The most classes, and the most numbers in an answer, for which an image may have to be sent alone.
MAX_CLASSES = 100_000
MAX_NUMBERS = 2**20
# The most bytes of a description, and of an answer: for each number, and for everything else.
DESCRIPTION_BYTES = 2**16
NUMBER_BYTES, OTHER_BYTES = 64, 2**16
# Seconds of silence after which an attempt is given up, and the number of attempts for a query.
TIMEOUT = 30.0
TRIES = 6
# Fewer at the start, where a user who mistyped the address is waiting.
DESCRIPTION_TRIES = 3


class Description(BaseModel, frozen=True, strict=True):
    """How an endpoint describes itself."""

    protocol: Literal[1] = 1
    classes: Annotated[int, Field(ge=2, le=MAX_CLASSES)]
    image_shape: tuple[PositiveInt, PositiveInt, PositiveInt]
    returns: Literal["logits", "labels"]
    model: Annotated[str, Field(min_length=1)]


class Answer(BaseModel, frozen=True, strict=True):
    """An endpoint's answer for n images: logits [n][classes], or n labels."""

    model: str
    logits: list[list[FiniteFloat]] | None = None
    labels: list[int] | None = None


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
        content = exchange(url, None, timeout, min(tries, DESCRIPTION_TRIES), DESCRIPTION_BYTES)
        return cls(url, _parsed(Description, content, url), timeout=timeout, tries=tries)

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
                f"height, width), not {tuple(images.shape[1:])}; `image_size` and "
                "`channels` change them",
                field="classifier",
            )
        finite = images.flatten(1).isfinite().all(dim=1)
        answers = torch.full((len(images), self.num_classes), torch.nan, device=images.device)
        if finite.any():
            room = MAX_PIXEL_BYTES // (4 * images[0].numel()), MAX_NUMBERS // self.num_classes
            size = max(1, min(MAX_IMAGES, *room))
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
        most = OTHER_BYTES + NUMBER_BYTES * len(images) * self.num_classes
        content = exchange(self.url, question, self._timeout, self._tries, most)
        answer = _parsed(Answer, content, self.url)
        if answer.model != self.description.model:
            raise InputError(
                f"the model behind {self.url} changed from {self.description.model!r} to "
                f"{one_line(answer.model)!r}; start a new run for it",
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


def _parsed(kind: type[_Message], content: bytes, url: str) -> _Message:
    try:
        return kind.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the answer"
        # Without its cause, which would quote the answer.
        failure = f"does not follow the protocol: {where}: {first['msg']}"
        raise _protocol_error(url, failure) from None


def _protocol_error(url: str, failure: str) -> InputError:
    return InputError(
        f"{url} {one_line(failure)}; docs/black_box.md says what is expected",
        field="classifier",
    )
