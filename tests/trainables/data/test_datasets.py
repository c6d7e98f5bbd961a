from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from trainables.data.datasets import Dataset, load_dataset
from trainables.errors import InputError

REPO_ROOT = Path(__file__).resolve().parents[3]
MNIST = REPO_ROOT.parent / "shared" / "data" / "mnist_folder"


def write_image(
    path: Path, mode: str = "RGB", size: tuple[int, int] = (7, 5), seed: int = 0
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    width, height = size
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)


def write_folder(root: Path, mode: str = "RGB", classes: tuple[str, ...] = ("cat", "dog")) -> Path:
    for part in ("train", "test"):
        for label, name in enumerate(classes):
            for number in range(3):
                write_image(root / part / name / f"{number}.png", mode, seed=10 * label + number)
    return root


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "images")


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits")


def refusal(action: Callable[[], object]) -> str:
    with pytest.raises(InputError) as caught:
        action()
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_digits_are_1797_images_of_which_500_are_for_testing(digits: Dataset) -> None:
    assert (len(digits.train.labels), len(digits.test.labels)) == (1297, 500)


def test_the_two_parts_of_digits_are_disjoint_and_together_all_of_scikit_learns(
    digits: Dataset,
) -> None:
    pixels, target = load_digits(return_X_y=True)
    expected = np.column_stack((pixels, target))
    parts = []
    for part in (digits.train, digits.test):
        images = part.load(range(len(part.labels))).numpy().reshape(-1, 64) * 16
        parts.append(np.column_stack((images, part.labels.numpy())))
    found = np.concatenate(parts)
    assert np.array_equal(found[np.lexsort(found.T)], expected[np.lexsort(expected.T)])


def test_digits_are_float_images_in_the_unit_interval(digits: Dataset) -> None:
    images = digits.train.load(range(1297))
    assert images.dtype == torch.float32
    assert images.shape == (1297, 1, 8, 8)
    assert (images.min(), images.max()) == (0, 1)


def test_every_digit_has_its_share_of_the_test_images(digits: Dataset) -> None:
    counts = torch.bincount(digits.test.labels, minlength=10)
    assert counts.min() >= 48
    assert counts.max() <= 51


def test_digits_are_split_alike_every_time(digits: Dataset) -> None:
    again = load_dataset("digits")
    assert torch.equal(again.test.labels, digits.test.labels)
    assert torch.equal(again.test.load(range(500)), digits.test.load(range(500)))


def test_images_come_in_the_order_asked_for(digits: Dataset) -> None:
    assert torch.equal(digits.train.load([5, 3]), digits.train.load(range(10))[[5, 3]])


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("1", 1), ("RGB", 3)])
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


def test_folder_classes_are_numbered_by_name(tmp_path: Path) -> None:
    dataset = load_dataset("folder", write_folder(tmp_path, classes=("dog", "ape", "cat")))
    assert dataset.classes == ("ape", "cat", "dog")
    assert dataset.train.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_files_that_do_not_end_like_images_are_ignored(folder: Path) -> None:
    (folder / "train" / "cat" / "notes.txt").write_text("hello")
    assert len(load_dataset("folder", folder).train.labels) == 6


def test_mixed_sizes_are_refused_naming_the_first_offending_file(folder: Path) -> None:
    write_image(folder / "train" / "cat" / "2.png", size=(7, 6))
    write_image(folder / "train" / "dog" / "1.png", size=(9, 9))
    message = refusal(lambda: load_dataset("folder", folder).train.load(range(6)))
    assert "cat/2.png is 7 x 6 RGB" in message
    assert "cat/0.png is 7 x 5 RGB" in message
    assert "dog" not in message


def test_mixed_colour_modes_are_refused_naming_the_first_offending_file(folder: Path) -> None:
    write_image(folder / "train" / "dog" / "0.png", mode="L")
    message = refusal(lambda: load_dataset("folder", folder).train.load(range(6)))
    assert "dog/0.png is 7 x 5 grey" in message


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    assert "nowhere" in refusal(lambda: load_dataset("folder", tmp_path / "nowhere"))


@pytest.mark.parametrize("part", ["train", "test"])
def test_a_folder_without_train_or_test_is_refused(folder: Path, part: str) -> None:
    (folder / part).rename(folder / "other")
    assert str(folder / part) in refusal(lambda: load_dataset("folder", folder))


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "file" in refusal(lambda: load_dataset("folder", tmp_path / "file"))


def test_a_folder_of_a_single_class_is_refused(tmp_path: Path) -> None:
    root = write_folder(tmp_path, classes=("cat",))
    assert "1 class folders" in refusal(lambda: load_dataset("folder", root))


def test_an_empty_class_is_refused_by_name(folder: Path) -> None:
    for path in (folder / "test" / "dog").iterdir():
        path.unlink()
    assert str(folder / "test" / "dog") in refusal(lambda: load_dataset("folder", folder))


def test_a_class_without_image_files_is_refused_by_name(folder: Path) -> None:
    for path in (folder / "train" / "cat").iterdir():
        path.rename(path.with_suffix(".txt"))
    assert str(folder / "train" / "cat") in refusal(lambda: load_dataset("folder", folder))


def test_different_classes_in_train_and_test_are_refused(folder: Path) -> None:
    (folder / "test" / "dog").rename(folder / "test" / "cow")
    assert "different classes" in refusal(lambda: load_dataset("folder", folder))


@pytest.mark.parametrize("data", [b"", b"no image at all", b"\x89PNG\r\n\x1a\n" + bytes(40)])
def test_a_file_that_is_no_image_is_refused_by_name(folder: Path, data: bytes) -> None:
    (folder / "train" / "dog" / "1.png").write_bytes(data)
    message = refusal(lambda: load_dataset("folder", folder).train.load(range(6)))
    assert str(folder / "train" / "dog" / "1.png") in message


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp"])
def test_a_truncated_image_is_refused_by_name(folder: Path, suffix: str) -> None:
    path = folder / "train" / "dog" / f"9.{suffix}"
    write_image(path, size=(40, 40))
    path.write_bytes(path.read_bytes()[:-200])
    assert str(path) in refusal(lambda: load_dataset("folder", folder).train.load([6]))


def test_a_png_whose_second_chunk_is_garbage_is_refused_by_name(folder: Path) -> None:
    path = folder / "train" / "dog" / "1.png"
    write_image(path, size=(40, 40))
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
    assert str(path) in refusal(lambda: load_dataset("folder", folder).train.load([6]))


def test_a_16_bit_grey_image_keeps_its_contrast_or_is_refused(tmp_path: Path) -> None:
    root = write_folder(tmp_path)
    ramp = np.linspace(0, 65535, 35).astype(np.uint16).reshape(5, 7)
    path = root / "train" / "cat" / "0.png"
    Image.fromarray(ramp).save(path)
    try:
        image = load_dataset("folder", root).train.load([0])[0, 0].numpy()
    except InputError:
        return
    assert np.allclose(image, ramp / 65535, atol=1 / 255)


def test_a_damaged_image_does_no_harm_until_it_is_asked_for(folder: Path) -> None:
    (folder / "train" / "dog" / "1.png").write_bytes(b"")
    assert load_dataset("folder", folder).train.load([0, 1, 5]).shape == (3, 3, 5, 7)


def test_an_unknown_data_set_is_refused_with_the_known_ones() -> None:
    message = refusal(lambda: load_dataset("imagenet"))
    assert "'imagenet'" in message
    assert "digits, folder" in message


def test_a_folder_data_set_needs_a_folder() -> None:
    assert "--data-dir" in refusal(lambda: load_dataset("folder"))


@pytest.mark.skipif(not MNIST.is_dir(), reason="the MNIST image folder is absent")
def test_a_real_greyscale_folder_loads() -> None:
    dataset = load_dataset("folder", MNIST)
    assert dataset.classes == tuple("0123456789")
    assert torch.bincount(dataset.train.labels).tolist() == [500] * 10
    images = dataset.train.load([0, 2500, 4999])
    assert images.shape == (3, 1, 28, 28)
    assert 0.9 < images.max() <= 1
