"""YAML 1.2's plain values: 012 is twelve, 1:30 and 2026-01-31 are text, 1e-4 is a number.

PyYAML follows YAML 1.1, to which 012 is ten, 1:30 is ninety, no is false, and 1e-4 is text. What is
written here is read back as it was, by readers of either version.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any

import yaml

# The core schema: https://yaml.org/spec/1.2.2/#103-core-schema. Each with all the characters that
# it can begin with; the empty text is null.
_NULL, _BOOL, _INT, _FLOAT = (
    f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float")
)
_CORE = {
    _NULL: (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    _BOOL: (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    _INT: (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    _FLOAT: (
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
}
_KINDS = ("null", "bool", "int", "float", "str", "seq", "map")
_BASES = {"0o": 8, "0x": 16}
# Longer whole numbers take Python too long to read.
_DIGITS = 4000
_MOST = 100_000

# Categories of Unicode: control characters, halves of pairs, and ends of lines.
_CONTROLS = {"Cc", "Cs", "Zl", "Zp"}


class _Loader(yaml.SafeLoader):
    """Reads plain values only, as `SafeLoader` does."""

    def construct_whole(self, node: yaml.ScalarNode) -> int:
        """A whole number, in one of the forms of the core schema."""
        text = str(self.construct_scalar(node))
        if not re.fullmatch(_CORE[_INT][0], text) or len(text) > _DIGITS:
            raise yaml.constructor.ConstructorError(
                None, None, f"{text[:40]!r} is not a whole number", node.start_mark
            )
        return int(text, _BASES.get(text[:2], 10))


class _Unprintable(ValueError):
    """Text that a terminal would obey."""


class _Dumper(yaml.SafeDumper):
    """Quotes text that would be read as a number."""


# Not those of YAML 1.1, and none for dates, binary data and the like.
_Loader.yaml_implicit_resolvers = {}
_Loader.yaml_constructors = {
    tag: yaml.SafeLoader.yaml_constructors[tag]
    for tag in (None, *(f"tag:yaml.org,2002:{kind}" for kind in _KINDS))
}
for _tag, (_form, _first) in _CORE.items():
    for _part in (_Loader, _Dumper):
        _part.add_implicit_resolver(_tag, re.compile(f"^(?:{_form})$"), _first)
_Loader.add_implicit_resolver("tag:yaml.org,2002:merge", re.compile("^(?:<<)$"), ["<"])
_Loader.add_constructor(_INT, _Loader.construct_whole)


def load_yaml(text: str) -> Any:
    """The content of a YAML document, without control characters, which a terminal would obey.

        >>> load_yaml("{learning_rate: 1e-4}")
        {'learning_rate': 0.0001}

    Raises:
        yaml.YAMLError: when it is not YAML, or has more than plain values.
        ValueError: when it has text with control characters.
    """
    try:
        content = yaml.load(text, _Loader)
        _check(content)
    except RecursionError:
        raise yaml.YAMLError("it is nested too deeply") from None
    except (TypeError, ValueError, LookupError, OverflowError) as error:
        if isinstance(error, _Unprintable):
            raise
        # Of a tag on a value that it does not fit, such as !!float x.
        raise yaml.YAMLError(str(error)[:200]) from error
    return content


def _check(content: Any) -> None:
    """Refuse text that a terminal would obey, and what aliases make huge or endless."""
    parts, seen = [content], 0
    while parts:
        part = parts.pop()
        seen += 1
        if seen > _MOST:
            raise yaml.YAMLError(f"it has more than {_MOST} values")
        if isinstance(part, dict):
            parts += [*part, *part.values()]
        elif isinstance(part, list):
            parts += part
        elif isinstance(part, str) and any(unicodedata.category(c) in _CONTROLS for c in part):
            raise _Unprintable(f"{part!a} has characters that cannot be printed")


def dump_yaml(content: Any) -> str:
    """Plain values as a YAML document; mappings keep their order."""
    text: str = yaml.dump(content, Dumper=_Dumper, sort_keys=False)
    return text
