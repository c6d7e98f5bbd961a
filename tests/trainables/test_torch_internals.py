"""The private names of PyTorch: all there, and on one page."""

import re
from pathlib import Path

import pytest

import trainables
from trainables import torch_internals

PRIVATE = re.compile(
    r"\b(torch|nn|fx)(\.\w+)*\._[a-z]|\._(buffers|modules|parameters|\w*_hooks)\b|\.cudnn_conv"
)


def test_this_pytorch_has_every_name() -> None:
    torch_internals.check()


def test_a_name_that_is_gone_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("torch._export.serde.serialize._SERIALIZE_TO_TORCH_LAYOUT")
    torch_internals.file_numbers.cache_clear()
    with pytest.raises(AttributeError, match="_SERIALIZE_TO_TORCH_LAYOUT"):
        torch_internals.check()


def test_no_other_page_uses_private_names() -> None:
    pages = sorted(Path(trainables.__file__).parent.rglob("*.py"))
    found = {page.name for page in pages if PRIVATE.search(page.read_text())}
    assert found == {"torch_internals.py"}
