"""The rows of `votes.db`: which columns they have, and the checksum that each carries."""

import hashlib
from collections.abc import Sequence

KEY = ("model", "phase", "image", "sigma", "pixel_steps", "seed", "start", "stop")
"""What the counts of a row depend on; the primary key."""

COLUMNS = (*KEY, "votes", "seconds", "node", "checksum")

FORMAT_WITHOUT_CHECKSUMS = 3
"""The format before the present one, which is read as well; it lacks only the last column."""


def checksum(key: Sequence[object], votes: object) -> str:
    """The checksum of a row's key and of its votes, a JSON list: 64 bits in hexadecimal.

    >>> checksum(("m", "select", 0, 0.5, 0, 1, 0, 100), "[99, 1]")
    'da6a6004da894f6e'
    """
    model, phase, image, sigma, *rest = key
    # As SQLite gives it back, whatever kind of number it was.
    sigma = float(sigma) if isinstance(sigma, int | float) else sigma
    row = (model, phase, image, sigma, *rest, votes)
    return hashlib.blake2b(repr(row).encode(), digest_size=8).hexdigest()


def possible(votes: object, draws: int) -> bool:
    """Whether `votes` can be how many of so many draws were for each class; the rest abstained."""
    if not (type(votes) is list and votes and {*map(type, votes)} == {int}):
        return False
    return min(votes) >= 0 and sum(votes) <= draws
