"""Example images on disk: what comes back, and what is refused."""

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from results.examples import Examples, read_examples, write_examples
from results.files import EXAMPLES
from results.store import StoreError


def invented(images: int = 3, channels: int = 1) -> Examples:
    """Pictures of the first images of an invented run."""
    rng = np.random.default_rng(0)

    def pixels() -> Any:
        return rng.integers(0, 256, (images, channels, 4, 5), dtype=np.uint8)

    indices = tuple(3 * place for place in range(images))
    return Examples(indices, pixels(), {"none": pixels(), "best": pixels()}, {"best": pixels()})


@pytest.mark.parametrize("channels", [1, 3])
def test_examples_come_back(tmp_path: Path, channels: int) -> None:
    written = invented(channels=channels)
    write_examples(tmp_path, written)
    read = read_examples(tmp_path)
    assert read is not None
    assert read.indices == written.indices
    assert np.array_equal(read.clean, written.clean)
    for mine, theirs in ((read.noisy, written.noisy), (read.denoised, written.denoised)):
        assert list(mine) == list(theirs)
        assert all(np.array_equal(mine[name], theirs[name]) for name in mine)


def test_no_file_is_no_examples(tmp_path: Path) -> None:
    assert read_examples(tmp_path) is None


def packed(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


PIXELS = np.zeros((2, 1, 4, 4), np.uint8)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not an archive",
        packed(indices=np.arange(2)),
        packed(indices=np.arange(3), clean=PIXELS),
        packed(indices=np.arange(2) / 2, clean=PIXELS),
        packed(indices=np.arange(2), clean=PIXELS / 2),
        packed(indices=np.arange(2), clean=PIXELS[:, 0]),
        packed(indices=np.arange(2), clean=PIXELS, noisy_best=PIXELS[:1]),
        packed(indices=np.arange(2), clean=np.array([{}, {}], dtype=object)),
    ],
)
def test_a_damaged_file_is_a_one_line_error(tmp_path: Path, data: bytes) -> None:
    (tmp_path / EXAMPLES).write_bytes(data)
    with pytest.raises(StoreError, match=EXAMPLES) as error:
        read_examples(tmp_path)
    assert "\n" not in str(error.value)


def test_an_archive_that_unpacks_to_far_more_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / EXAMPLES, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("clean.npy", bytes(100 * 2**20))
    assert (tmp_path / EXAMPLES).stat().st_size < 2**20
    with pytest.raises(StoreError, match="too large"):
        read_examples(tmp_path)
