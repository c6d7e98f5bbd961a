"""What a user reads when the data cannot be used."""

from collections.abc import Callable

import pytest

from trainables.errors import InputError


def refusal(action: Callable[[], object]) -> str:
    """The one line with which `action` is refused."""
    with pytest.raises(InputError) as caught:
        action()
    message = str(caught.value)
    assert "\n" not in message
    return message
