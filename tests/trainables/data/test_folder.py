import random
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.support.image_folders import write_folder, write_image
from tests.support.refusal import refusal
from trainables.data.datasets import Dataset, load_dataset
from trainables.data.folder import FolderImages

REPO_ROOT = Path(__file__).resolve().parents[3]
MNIST = REPO_ROOT.parent / "shared" / "data" / "mnist_folder"
LAYOUTS = "a data folder holds train/CLASS/IMAGE and test/CLASS/IMAGE, or else CLASS/IMAGE"


def write_whole(root: Path, counts: dict[str, int]) -> Path:
    """A folder of classes, without train/ and test/."""
    for name, count in counts.items():
        for number in range(count):
            write_image(root / name / f"{number:02}.png", seed=number)
    return root


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "images")


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    return write_whole(tmp_path / "images", {"cat": 10, "dog": 5})


def names(dataset: Dataset) -> tuple[list[str], list[str]]:
    """CLASS/IMAGE of the training and of the test images."""
    train, test = dataset.train, dataset.test
    assert isinstance(train, FolderImages)
    assert isinstance(test, FolderImages)
    for side in (train, test):
        classes = [dataset.classes[label] for label in side.labels.tolist()]
        assert [path.parent.name for path in side.paths] == classes
    return (
        [f"{path.parent.name}/{path.name}" for path in train.paths],
        [f"{path.parent.name}/{path.name}" for path in test.paths],
    )


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("1", 1), ("LA", 1), ("RGB", 3)])
def test_folder_images_hold_the_pixels_of_their_files(
    tmp_path: Path, mode: str, channels: int
) -> None:
    root = write_folder(tmp_path, mode)
    images = load_dataset("folder", root).train.load([4, 0])
    assert images.dtype == torch.float32
    assert images.shape == (2, channels, 5, 7)
    for image, path in zip(images, ("dog/1.png", "cat/0.png"), strict=True):
        pixels = np.asarray(
            Image.open(root / "train" / path).convert("RGB" if channels == 3 else "L")
        )
        expected = pixels.reshape(5, 7, channels).transpose(2, 0, 1) / 255
        assert np.allclose(image.numpy(), expected, atol=1e-7)


@pytest.mark.parametrize("mode", ["P", "RGBA"])
def test_palettes_and_alpha_channels_become_rgb(tmp_path: Path, mode: str) -> None:
    assert load_dataset("folder", write_folder(tmp_path, mode)).train.load([0]).shape[1] == 3


@pytest.mark.parametrize(
    ("mode", "other"), [("RGB", "P"), ("RGB", "RGBA"), ("L", "1"), ("L", "LA")]
)
def test_modes_of_as_many_channels_may_be_mixed(tmp_path: Path, mode: str, other: str) -> None:
    root = write_folder(tmp_path, mode)
    write_image(root / "train" / "dog" / "1.png", other)
    assert len(load_dataset("folder", root).train.load(range(6))) == 6


def test_folder_classes_are_numbered_by_name(tmp_path: Path) -> None:
    dataset = load_dataset("folder", write_folder(tmp_path, classes=("dog", "ape", "cat")))
    assert dataset.classes == ("ape", "cat", "dog")
    assert dataset.train.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_files_that_do_not_end_like_images_are_ignored(folder: Path) -> None:
    (folder / "train" / "cat" / "notes.txt").write_text("hello")
    assert len(load_dataset("folder", folder).train.labels) == 6


def test_a_folder_needs_no_download(folder: Path) -> None:
    assert len(load_dataset("folder", folder, download=True).train.labels) == 6


def test_mixed_sizes_are_refused_naming_the_first_offending_file(folder: Path) -> None:
    write_image(folder / "train" / "cat" / "2.png", size=(7, 6))
    write_image(folder / "train" / "dog" / "1.png", size=(9, 9))
    message = refusal(lambda: load_dataset("folder", folder))
    assert "cat/2.png is 7 x 6 RGB" in message
    assert "cat/0.png is 7 x 5 RGB" in message
    assert "dog" not in message


def test_mixed_colour_modes_are_refused_naming_the_first_offending_file(folder: Path) -> None:
    write_image(folder / "train" / "dog" / "0.png", mode="L")
    message = refusal(lambda: load_dataset("folder", folder))
    assert "dog/0.png is 7 x 5 grey" in message


def test_test_images_must_be_like_the_training_images(folder: Path) -> None:
    write_image(folder / "test" / "dog" / "2.png", size=(5, 7))
    assert "test/dog/2.png is 5 x 7 RGB" in refusal(lambda: load_dataset("folder", folder))


def test_mixed_sizes_of_a_whole_folder_are_refused(whole: Path) -> None:
    for number in range(5):
        write_image(whole / "dog" / f"{number:02}.png", size=(8, 5))
    message = refusal(lambda: load_dataset("folder", whole))
    assert "dog/00.png is 8 x 5 RGB" in message
    assert "cat/00.png is 7 x 5 RGB" in message


def test_one_image_in_five_of_each_class_of_a_whole_folder_is_for_testing(whole: Path) -> None:
    train, test = names(load_dataset("folder", whole))
    assert [name.split("/")[0] for name in test] == ["cat", "cat", "dog"]
    assert sorted(train + test) == sorted(
        f"{path.parent.name}/{path.name}" for path in whole.glob("*/*.png")
    )
    assert train == sorted(train)
    assert test == sorted(test)


@pytest.mark.parametrize(("count", "held_out"), [(2, 1), (4, 1), (9, 1), (10, 2), (25, 5)])
def test_at_least_one_image_of_each_class_is_for_testing(
    tmp_path: Path, count: int, held_out: int
) -> None:
    dataset = load_dataset("folder", write_whole(tmp_path, {"cat": count, "dog": 2}))
    assert torch.bincount(dataset.test.labels).tolist() == [held_out, 1]
    assert torch.bincount(dataset.train.labels).tolist() == [count - held_out, 1]


def test_a_whole_folder_is_split_as_it_always_was(whole: Path) -> None:
    # Another split would certify classifiers on images that they were trained on.
    _, test = names(load_dataset("folder", whole))
    assert test == ["cat/01.png", "cat/04.png", "dog/03.png"]


def test_neither_global_seeds_nor_the_order_of_files_change_the_split(
    whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = names(load_dataset("folder", whole))
    torch.manual_seed(99)
    listed = Path.iterdir

    def shuffled(path: Path) -> list[Path]:
        found = list(listed(path))
        return random.Random(1).sample(found, len(found))

    monkeypatch.setattr(Path, "iterdir", shuffled)
    assert names(load_dataset("folder", whole)) == expected


def test_splitting_a_folder_leaves_the_global_random_state_alone(whole: Path) -> None:
    before = torch.get_rng_state()
    load_dataset("folder", whole)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_class_of_one_image_cannot_be_split(tmp_path: Path) -> None:
    root = write_whole(tmp_path, {"cat": 3, "dog": 1})
    message = refusal(lambda: load_dataset("folder", root))
    assert "class 'dog' has 1 image" in message
    assert "at least 2" in message


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    message = refusal(lambda: load_dataset("folder", tmp_path / "nowhere"))
    assert message == f"data_dir: {tmp_path / 'nowhere'} is not a folder; {LAYOUTS}"


def test_a_folder_that_cannot_be_read_is_refused() -> None:
    assert "File name too long" in refusal(lambda: load_dataset("folder", Path("x" * 300)))


@pytest.mark.parametrize("part", ["train", "test"])
def test_a_folder_without_train_or_test_is_refused(folder: Path, part: str) -> None:
    (folder / part).rename(folder / "other")
    message = refusal(lambda: load_dataset("folder", folder))
    assert message == f"data_dir: {folder / part} is not a folder; {LAYOUTS}"


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "file" in refusal(lambda: load_dataset("folder", tmp_path / "file"))


def test_a_folder_of_a_single_class_is_refused(tmp_path: Path) -> None:
    root = write_folder(tmp_path, classes=("cat",))
    assert "1 class folders" in refusal(lambda: load_dataset("folder", root))


def test_a_folder_without_classes_is_refused_saying_what_it_may_look_like(tmp_path: Path) -> None:
    write_image(tmp_path / "0.png")
    message = refusal(lambda: load_dataset("folder", tmp_path))
    assert "0 class folders" in message
    assert LAYOUTS in message


@pytest.mark.parametrize("place", ["test/dog", "dog"])
def test_an_empty_class_is_refused_by_name(folder: Path, place: str) -> None:
    root = folder if place == "test/dog" else folder / "test"
    for path in (root / place).iterdir():
        path.unlink()
    assert str(root / place) in refusal(lambda: load_dataset("folder", root))


def test_a_class_without_image_files_is_refused_by_name(folder: Path) -> None:
    for path in (folder / "train" / "cat").iterdir():
        path.rename(path.with_suffix(".txt"))
    assert str(folder / "train" / "cat") in refusal(lambda: load_dataset("folder", folder))


def test_different_classes_in_train_and_test_are_refused_by_name(folder: Path) -> None:
    (folder / "test" / "dog").rename(folder / "test" / "cow")
    message = refusal(lambda: load_dataset("folder", folder))
    assert message.endswith("hold different classes: only train has dog; only test has cow")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no image at all",
        b"\x89PNG\r\n\x1a\n" + bytes(40),
        b"\x89PNG\r\n\x1a\n\0\0\0\7IHDR" + bytes(40),
    ],
)
@pytest.mark.parametrize("part", ["train", "test"])
def test_a_file_that_is_no_image_is_refused_by_name(folder: Path, part: str, data: bytes) -> None:
    (folder / part / "dog" / "1.png").write_bytes(data)
    message = refusal(lambda: load_dataset("folder", folder))
    assert message == (
        f"data_dir: {folder / part / 'dog' / '1.png'} cannot be read as an image; remove it"
    )


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp"])
def test_a_truncated_image_is_refused_by_name_once_it_is_asked_for(
    folder: Path, suffix: str
) -> None:
    path = folder / "train" / "dog" / f"9.{suffix}"
    write_image(path)
    path.write_bytes(path.read_bytes()[:-30])
    train = load_dataset("folder", folder).train
    assert train.load(range(6)).shape == (6, 3, 5, 7)
    assert str(path) in refusal(lambda: train.load([6]))


def test_a_png_whose_second_chunk_is_garbage_is_refused_by_name(folder: Path) -> None:
    path = folder / "train" / "dog" / "1.png"
    data = bytearray(path.read_bytes())
    start = data.index(b"IDAT") - 4
    data[start : start + 4] = (100).to_bytes(4, "big")
    path.write_bytes(bytes(data))
    assert str(path) in refusal(lambda: load_dataset("folder", folder).train.load([4]))


def test_an_image_that_claims_a_gigantic_size_is_refused_by_name(folder: Path) -> None:
    path = folder / "train" / "dog" / "9.bmp"
    write_image(path)
    data = bytearray(path.read_bytes())
    data[18:26] = (100_000).to_bytes(4, "little") * 2
    path.write_bytes(bytes(data))
    message = refusal(lambda: load_dataset("folder", folder))
    assert f"{path} cannot be read" in message


@pytest.mark.parametrize("part", ["train", "test"])
def test_a_16_bit_grey_image_is_refused_by_name(tmp_path: Path, part: str) -> None:
    root = write_folder(tmp_path, "L")
    path = root / part / "cat" / "0.png"
    Image.fromarray(np.linspace(0, 65535, 35).astype(np.uint16).reshape(5, 7)).save(path)
    message = refusal(lambda: load_dataset("folder", root))
    assert f"{path} has pixels of more than 8 bits" in message


@pytest.mark.skipif(not MNIST.is_dir(), reason="the MNIST image folder is absent")
def test_a_real_greyscale_folder_loads() -> None:
    dataset = load_dataset("folder", MNIST)
    assert dataset.classes == tuple("0123456789")
    assert torch.bincount(dataset.train.labels).tolist() == [500] * 10
    images = dataset.train.load([0, 2500, 4999])
    assert images.shape == (3, 1, 28, 28)
    assert 0.9 < images.max() <= 1


@pytest.mark.skipif(not MNIST.is_dir(), reason="the MNIST image folder is absent")
def test_a_real_folder_without_train_and_test_is_split() -> None:
    dataset = load_dataset("folder", MNIST / "test")
    assert torch.bincount(dataset.train.labels).tolist() == [240] * 10
    assert torch.bincount(dataset.test.labels).tolist() == [60] * 10
