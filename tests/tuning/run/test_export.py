"""What an export says of itself."""

from typing import get_args

from results.schema import ORIGINS
from trainables.smoothing.export import Origin


def test_whatever_can_win_can_be_exported() -> None:
    assert {*get_args(Origin)} == {*ORIGINS} - {"none"}
