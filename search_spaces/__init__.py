"""Search spaces: what a study may vary, as data."""

from search_spaces.space import SearchSpace, SpaceError, load_space

__all__ = ["SearchSpace", "SpaceError", "load_space"]
