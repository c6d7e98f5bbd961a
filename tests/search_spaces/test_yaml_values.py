import math
from typing import Any

import pytest
import yaml

from search_spaces.yaml_values import dump_yaml, load_yaml

# Each level holds the one before ten times.
BOMB = "\n".join(
    ["a0: &a0 x", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12))]
)


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


@pytest.mark.parametrize(
    ("text", "value"),
    [("012", 12), ("-007", -7), ("0o14", 12), ("0x1F", 31), ("+3", 3), ("08", 8), (".5", 0.5),
     ("-.inf", -math.inf), ("~", None), ("Null", None), ("TRUE", True), ("False", False),
     ("1:30", "1:30"), ("0b11", "0b11"), ("1_000", "1_000"), ("2020-13-45", "2020-13-45"),
     ("2026-01-31", "2026-01-31"), ("yes", "yes"), ("off", "off"), ("0b_", "0b_")],
)  # fmt: skip
def test_plain_values_mean_what_they_mean_in_yaml_1_2(text: str, value: object) -> None:
    found = load_yaml(f"a: {text}")["a"]
    assert (found, type(found)) == (value, type(value))
    assert load_yaml(f"[{text}]") == [value]
    assert load_yaml(dump_yaml([value])) == [value]


@pytest.mark.parametrize(
    "text",
    [
        "!!int x",
        "!!int 0b1",
        "!!float x",
        "9" * 5000,
        "[" * 3000,
        "!!timestamp x",
        "[",
        "@",
        "!!bool x",
        "!!float ''",
        "!!binary eA==",
        "!!set {a}",
        "? [a]\n: b",
        "&a [*a]",
        BOMB,
    ],
)
def test_what_cannot_be_read_is_refused_as_yaml(text: str) -> None:
    with pytest.raises(yaml.YAMLError) as caught:
        load_yaml(text)
    assert len(str(caught.value)) < 500


def test_nothing_but_plain_values_is_read() -> None:
    with pytest.raises(yaml.YAMLError):
        load_yaml("!!python/object/apply:os.getcwd []")


@pytest.mark.parametrize(
    "text", ['name: "\\e[31mred"', '"\\e[2J": 1', '[1, {a: ["x\\ny"]}]', 'a: "\\u2028"']
)
def test_what_a_terminal_would_obey_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="has characters that cannot be printed"):
        load_yaml(text)
