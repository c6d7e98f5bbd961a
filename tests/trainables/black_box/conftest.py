"""The server that most tests of a classifier behind HTTP ask."""

from collections.abc import Iterator

import pytest

from tests.support.answering import Linear, serving
from trainables.black_box.server import ClassifierServer


@pytest.fixture
def server() -> Iterator[ClassifierServer]:
    with serving(Linear().eval()) as server:
        yield server
