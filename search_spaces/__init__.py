"""Search spaces: what a study may vary, as data."""

from search_spaces.composition import SpaceError, shipped_spaces
from search_spaces.space import SearchSpace, load_space

__all__ = ["SearchSpace", "SpaceError", "load_space", "shipped_spaces"]
