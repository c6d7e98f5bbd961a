"""The server of the reference endpoint. The protocol is in docs/black_box.md."""

from __future__ import annotations

import math
import threading
from typing import Literal

import numpy as np
import torch
from pydantic import Base64Bytes, BaseModel, PositiveInt, ValidationError
from torch import Tensor, nn

from trainables.black_box.endpoint import MAX_IMAGES, Answer, Description
from trainables.black_box.json_server import JsonHandler, JsonServer, Refused
from trainables.black_box.openapi import Operation
from trainables.errors import InputError
from trainables.weights.checkpoint import weights_hash


class Question(BaseModel, frozen=True, strict=True):
    """A POST: `images` are little-endian floats in C order, as base64."""

    shape: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt]
    dtype: Literal["float32"]
    images: Base64Bytes


class ClassifierServer(JsonServer):
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

    def answer(self, images: Tensor) -> Answer:
        """The answer for images [n, C, H, W].

        Raises:
            Refused: for images that the classifier cannot answer.
        """
        if len(images) > MAX_IMAGES:
            raise Refused(400, f"{len(images)} images; a request may have {MAX_IMAGES}")
        if tuple(images.shape[1:]) != self.description.image_shape:
            raise Refused(400, f"shape: images are {list(self.description.image_shape)} here")
        if not images.isfinite().all():
            raise Refused(400, "images: a pixel is not finite")
        with self._lock, torch.inference_mode():
            logits = self._classifier(images)
        if not logits.isfinite().all():
            raise Refused(400, "images: the logits of one are not finite")
        if self.description.returns == "labels":
            return Answer(model=self.description.model, labels=logits.argmax(dim=1).tolist())
        return Answer(model=self.description.model, logits=logits.float().tolist())


class _Handler(JsonHandler):
    server: ClassifierServer
    title = "A classifier that only answers"
    operations = (
        Operation("GET", "/", "What is served.", Description),
        Operation(
            "POST", "/", "The logits or the labels of images.", Answer, Question, errors=(400, 500)
        ),
    )

    def respond(self, operation: Operation, body: bytes) -> tuple[BaseModel, int]:
        if operation.method == "GET":
            return self.server.description, 0
        images = images_of(body)
        return self.server.answer(images), len(images)


def images_of(body: bytes) -> Tensor:
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
