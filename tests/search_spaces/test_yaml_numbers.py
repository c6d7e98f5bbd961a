import math
from typing import Any

import pytest
import yaml

from search_spaces.yaml_numbers import dump_yaml, load_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-4", 1e-4), ("5e-3", 5e-3), ("1.5e3", 1500.0), ("-1E5", -1e5), ("+.5e-3", 5e-4),
     ("1.e3", 1000.0), ("1e+2", 100.0), ("3.0e-4", 3e-4), ("1e400", math.inf)],
)  # fmt: skip
def test_numbers_with_an_exponent_are_numbers(text: str, value: float) -> None:
    assert load_yaml(f"a: {text}") == {"a": value}
    assert load_yaml(f"[{text}, 1]") == [value, 1]
    assert load_yaml(text) == value


@pytest.mark.parametrize("text", ["1e", "e5", "1e5x", "1e-4 m", "0x1e-4", "1e5.", "1 e5", ".e3"])
def test_what_only_resembles_a_number_is_text(text: str) -> None:
    assert load_yaml(f"a: {text}") == {"a": text}
    assert load_yaml(f"a: '{text}'") == {"a": text}


@pytest.mark.parametrize(
    "value",
    ["1e-4", "5e3", "-1.5E3", "0.1", "12", "yes", 1e-4, 1e22, 3, True, None, "1e", math.inf],
)
def test_what_is_written_is_read_back_by_any_reader(value: Any) -> None:
    for read in (load_yaml, yaml.safe_load):
        found = read(dump_yaml({"a": value}))["a"]
        assert (found, type(found)) == (value, type(value))


def test_nothing_but_plain_values_is_read() -> None:
    with pytest.raises(yaml.YAMLError):
        load_yaml("!!python/object/apply:os.getcwd []")


@pytest.mark.parametrize(
    "text", ['name: "\\e[31mred"', '"\\e[2J": 1', '[1, {a: ["x\\ny"]}]', 'a: "\\u2028"']
)
def test_what_a_terminal_would_obey_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="has characters that cannot be printed"):
        load_yaml(text)
