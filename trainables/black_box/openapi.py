"""What a server answers, as data: its requests are routed by it, and GET /openapi.json shows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, RootModel
from pydantic.json_schema import models_json_schema

PATH = "/openapi.json"
# What an operation can answer apart from what is asked, and when.
REASONS = {
    400: "what was sent is not what this takes",
    401: "the bearer token is missing or wrong",
    408: "the body did not arrive in time",
    411: "the body came in chunks, or with a length that is no number",
    413: "the body is too long",
    500: "the classifier failed",
    502: "the endpoint behind this server failed",
    503: "too many requests are waiting; try again later",
}
ALWAYS = (401, 408, 411, 413)
_REFERENCE = "#/components/schemas/{model}"


class ErrorAnswer(BaseModel):
    """Why there is no other answer, in one line."""

    error: str


@dataclass(frozen=True)
class Operation:
    """What is done for one method at one path.

    A `question` comes as JSON, or, if it `takes_images`, as the content of an image file. It is
    refused with one of the statuses in `errors`, besides those of `ALWAYS`.
    """

    method: Literal["GET", "POST"]
    path: str
    does: str
    answer: type[BaseModel]
    question: type[BaseModel] | None = None
    takes_images: bool = False
    errors: tuple[int, ...] = ()


class Document(RootModel[dict[str, Any]]):
    """An OpenAPI description."""


ITSELF = Operation("GET", PATH, "This description.", Document)


def describe(title: str, operations: Sequence[Operation], token: bool) -> Document:
    """The OpenAPI description of a server, which asks for a `token` or does not."""
    models = {m for o in operations for m in (o.answer, o.question) if m} | {ErrorAnswer}
    _, schemas = models_json_schema(
        [(model, _mode(model, operations)) for model in sorted(models, key=lambda m: m.__name__)],
        ref_template=_REFERENCE,
    )
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _described(operation)
    return Document({
        "openapi": "3.1.0",
        "info": {
            "title": title,
            "version": "1",
            "description": "Other paths are answered with 404, other methods with 405.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}] if token else [],
    })  # fmt: skip


def _mode(model: type[BaseModel], operations: Sequence[Operation]) -> Any:
    asked = any(operation.question is model for operation in operations)
    return "validation" if asked else "serialization"


def _described(operation: Operation) -> dict[str, Any]:
    answers = {"200": ("what was asked for", operation.answer)}
    for status in sorted((*ALWAYS, *operation.errors)):
        answers[str(status)] = (REASONS[status], ErrorAnswer)
    found: dict[str, Any] = {
        "summary": operation.does,
        "responses": {
            status: {"description": reason, "content": _json(model)}
            for status, (reason, model) in answers.items()
        },
    }
    if operation.question is not None:
        images: dict[str, Any] = {"image/*": {}} if operation.takes_images else {}
        found["requestBody"] = {"required": True, "content": _json(operation.question) | images}
    return found


def _json(model: type[BaseModel]) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": _REFERENCE.format(model=model.__name__)}}}
