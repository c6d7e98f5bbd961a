"""YAML in which 1e-4 is a number, as in YAML 1.2 and on the command line.

PyYAML follows YAML 1.1, where a number with an exponent needs a point and the exponent a sign:
1e-4 and 1.5e3 would be text. What is written here is read back as it was, by any version.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any

import yaml

_EXPONENT = re.compile(r"^[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)[eE][-+]?[0-9]+$")

# Categories of Unicode: control characters, halves of pairs, and ends of lines.
_CONTROLS = {"Cc", "Cs", "Zl", "Zp"}


class _Loader(yaml.SafeLoader):
    """Reads plain values only, as `SafeLoader` does."""


class _Dumper(yaml.SafeDumper):
    """Quotes text that would be read as a number."""


for _part in (_Loader, _Dumper):
    _part.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, list("-+.0123456789"))


def load_yaml(text: str) -> Any:
    """The content of a YAML document, without control characters, which a terminal would obey.

        >>> load_yaml("{learning_rate: 1e-4}")
        {'learning_rate': 0.0001}

    Raises:
        yaml.YAMLError: when it is not YAML, or has more than plain values.
        ValueError: when it has a date that does not exist, or text with control characters.
    """
    content = yaml.load(text, _Loader)
    _check_printable(content)
    return content


def _check_printable(content: Any) -> None:
    if isinstance(content, str):
        if any(unicodedata.category(character) in _CONTROLS for character in content):
            raise ValueError(f"{content!a} has characters that cannot be printed")
    elif isinstance(content, dict):
        for part in (*content, *content.values()):
            _check_printable(part)
    elif isinstance(content, list):
        for part in content:
            _check_printable(part)


def dump_yaml(content: Any) -> str:
    """Plain values as a YAML document; mappings keep their order."""
    text: str = yaml.dump(content, Dumper=_Dumper, sort_keys=False)
    return text
