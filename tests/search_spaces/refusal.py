"""What a user reads when a search space cannot be used."""

from typing import Any

import pytest

from search_spaces import SpaceError, load_space


def refusal(name: str, fixed: dict[str, Any] | None = None) -> str:
    """The one line with which the space `name` is refused."""
    with pytest.raises(SpaceError) as caught:
        load_space(name, fixed)
    message = str(caught.value)
    assert message.startswith("--space: ")
    assert "\n" not in message
    return message
