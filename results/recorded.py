"""The rows of `votes.db`: their columns, their version, and the checksum that each carries."""

import hashlib
from collections.abc import Sequence

KEY = ("model", "phase", "image", "sigma", "pixel_steps", "seed", "start", "stop")
"""What the counts of a row depend on; the primary key."""

COLUMNS = (*KEY, "votes", "seconds", "node", "checksum")

VOTES_FORMAT = 4
"""The version of `votes.db`: of its columns, and of what its counts mean."""

FORMAT_WITHOUT_CHECKSUMS = 3
"""The version before, which is read as well; it lacks only the last column."""


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
