"""YAML in which 1e-4 is a number, as in YAML 1.2 and on the command line.

PyYAML follows YAML 1.1, where a number with an exponent needs a point and the exponent a sign:
1e-4 and 1.5e3 would be text. What is written here is read back as it was, by any version.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

_EXPONENT = re.compile(r"^[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)[eE][-+]?[0-9]+$")


class _Loader(yaml.SafeLoader):
    """Reads plain values only, as `SafeLoader` does."""


class _Dumper(yaml.SafeDumper):
    """Quotes text that would be read as a number."""


for _part in (_Loader, _Dumper):
    _part.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, list("-+.0123456789"))


def load_yaml(text: str) -> Any:
    """The content of a YAML document.

        >>> load_yaml("{learning_rate: 1e-4}")
        {'learning_rate': 0.0001}

    Raises:
        yaml.YAMLError: when it is not YAML, or has more than plain values.
        ValueError: when it has a date that does not exist.
    """
    return yaml.load(text, _Loader)


def dump_yaml(content: Any) -> str:
    """Plain values as a YAML document; mappings keep their order."""
    text: str = yaml.dump(content, Dumper=_Dumper, sort_keys=False)
    return text
