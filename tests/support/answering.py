"""A small classifier behind HTTP, and what it is asked."""

import base64
import http.client
import json
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from tests.support.background import in_background
from trainables.black_box.server import ClassifierServer

IMAGES = torch.randn((7, 1, 2, 3), generator=torch.Generator().manual_seed(0))


class Linear(nn.Module):
    """Logits of 2 x 3 grey images; it remembers the sizes of its batches."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(6, 4)
        self.batches: list[int] = []
        with torch.no_grad():
            self.head.weight.copy_(torch.arange(24).view(4, 6).sin())
            self.head.bias.zero_()

    def forward(self, images: Tensor) -> Tensor:
        self.batches.append(len(images))
        logits: Tensor = self.head(images.flatten(1))
        return logits


class Failing(Linear):
    """Fails for more than one image, with a reason of two lines."""

    def forward(self, images: Tensor) -> Tensor:
        if len(images) > 1:
            raise RuntimeError("out of\nmemory")
        return super().forward(images)


def serving(classifier: nn.Module, **options: Any) -> AbstractContextManager[ClassifierServer]:
    return in_background(ClassifierServer(classifier, (1, 2, 3), ("127.0.0.1", 0), **options))


def question(images_: Tensor = IMAGES, /, **changes: object) -> dict[str, object]:
    pixels = base64.b64encode(images_.numpy().tobytes()).decode()
    return {"shape": list(images_.shape), "dtype": "float32", "images": pixels} | changes


def exchange(
    connection: http.client.HTTPConnection, method: str = "POST", body: object = None, **rest: Any
) -> tuple[int, Any]:
    content = body if isinstance(body, bytes) or body is None else json.dumps(body)
    connection.request(method, rest.pop("path", "/"), content, **rest)
    response = connection.getresponse()
    return response.status, json.loads(response.read())
