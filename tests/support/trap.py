from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path


class Trap:
    """Unpickling it creates the folder `sentinel`."""

    def __init__(self, sentinel: Path) -> None:
        self.sentinel = sentinel

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, (str(self.sentinel),)
