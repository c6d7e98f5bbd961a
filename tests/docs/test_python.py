"""The blocks of Python in the documentation, run as they are written."""

import ast
import re
from collections import Counter
from typing import Any

import pytest

from tests.support.desk import Desk
from tests.support.documented import blocks
from tests.support.runs import SETTING

PYTHONS = [block for block in blocks() if block.language == "python"]


def test_the_readme_shows_what_a_certificate_is(here: Desk) -> None:
    (block,) = (b for b in PYTHONS if b.page == "README.md" and "# Certificate(" in b.text)
    *statements, shown = ast.parse(block.text).body
    left: dict[str, Any] = {}
    exec(ast.unparse(ast.Module(statements, [])), left)
    found = repr(eval(ast.unparse(shown), left))
    fields = re.findall(r"\w+(?==)", block.text.partition("# Certificate(")[2])
    # What is shown is there, in this order.
    known = iter(re.findall(r"\w+(?==)", found))
    assert len(fields) > 3
    assert all(field in known for field in fields), found


def test_the_tutorial_certifies_an_image(here: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = (b for b in PYTHONS if b.page == "docs/tutorial.md")
    text = block.text.replace("folder-10shot", SETTING)
    left: dict[str, Any] = {}
    exec(text.replace("photos/test/CLASS/IMAGE", "three.png"), left)
    assert capsys.readouterr().out.split()[-1] == str(left["certificate"].radius)


def test_every_block_of_python_is_run_by_some_test() -> None:
    known = {
        # tests/runs/test_api.py, and here.
        "README.md": 2,
        # tests/trainables/smoothing/test_deploying.py.
        "docs/deploying.md": 2,
        # test_extending.py.
        "docs/extending.md": 2,
        "docs/tutorial.md": 1,
    }
    assert Counter(block.page for block in PYTHONS) == known
