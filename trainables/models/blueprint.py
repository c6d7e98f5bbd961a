"""How to build a network again, to which its weights are then given."""

from __future__ import annotations

from typing import Literal, NamedTuple

Kind = Literal[
    "architecture", "timm", "transformers", "program", "onnx", "factory", "endpoint", "module"
]


class Blueprint(NamedTuple):
    """Where a network comes from.

    The `kind` says what `name` is: an architecture of this package or of torchvision, a network of
    timm, an ONNX file, the `package.module:factory` or the URL that the user named. It is empty for
    what has no name. `details` are what else it takes, as JSON: the configuration of a network of
    transformers, or the graph of an exported program. It is text because networks are copied often,
    and a copy of nested dictionaries takes long.
    """

    kind: Kind
    name: str = ""
    details: str = "{}"
