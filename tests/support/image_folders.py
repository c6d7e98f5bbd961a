"""Image folders to load."""

from pathlib import Path

import numpy as np
from PIL import Image


def picture(mode: str = "RGB", size: tuple[int, int] = (7, 5), seed: int = 0) -> Image.Image:
    """An image of random pixels."""
    width, height = size
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def write_image(
    path: Path, mode: str = "RGB", size: tuple[int, int] = (7, 5), seed: int = 0
) -> None:
    """Write `picture` to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(mode, size, seed).save(path)


def write_folder(root: Path, mode: str = "RGB", classes: tuple[str, ...] = ("cat", "dog")) -> Path:
    """Three images of each class for training, and three for testing."""
    for part in ("train", "test"):
        for label, name in enumerate(classes):
            for number in range(3):
                write_image(root / part / name / f"{number}.png", mode, seed=10 * label + number)
    return root
