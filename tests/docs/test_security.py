"""The tests that the page on security names."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "security.md"
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def named() -> list[tuple[str, str]]:
    return NAMED.findall(PAGE.read_text())


def test_every_input_has_a_test() -> None:
    _, _, rows = PAGE.read_text().partition("| input | enforced | test |\n|---|---|---|\n")
    table, _, _ = rows.partition("\n\n")
    assert len(table.splitlines()) > 10
    assert all(NAMED.search(row.rsplit("|", 2)[1]) for row in table.splitlines())


@pytest.mark.parametrize(("path", "name"), named())
def test_it_exists(path: str, name: str) -> None:
    tree = ast.parse((ROOT / path).read_text())
    assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
