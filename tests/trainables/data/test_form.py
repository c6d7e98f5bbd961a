from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from sklearn.datasets import load_sample_image
from torchvision import transforms
from torchvision.transforms import InterpolationMode
from torchvision.transforms._presets import ImageClassification

from tests.support.image_folders import picture, write_folder, write_image
from tests.support.refusal import refusal
from trainables.data.datasets import load_dataset
from trainables.data.form import MOST_PIXELS, UNCHANGED, ImageForm, Shape
from trainables.data.forming import pixels_in_form

SIZES = [(60, 40), (40, 61), (33, 33), (37, 32), (36, 36), (8, 5), (300, 31), (5, 90)]
FILTERS = {"bilinear": InterpolationMode.BILINEAR, "bicubic": InterpolationMode.BICUBIC}


def formed(image: Image.Image, form: ImageForm) -> torch.Tensor:
    """The image in its form, as [channels, height, width] in [0, 1]."""
    return torch.from_numpy(pixels_in_form(image, form).copy()).permute(2, 0, 1).float() / 255


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["bilinear", "bicubic"])
@pytest.mark.parametrize("whole", [None, 32, 35])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_resized_image_has_the_pixels_of_torchvisions_evaluation(
    size: tuple[int, int], kind: str, whole: int | None, mode: str
) -> None:
    image = picture(mode, size)
    expected = ImageClassification(
        crop_size=32,
        resize_size=whole or 37,
        mean=(0.0,),
        std=(1.0,),
        interpolation=FILTERS[kind],
    )(image)
    form = ImageForm.model_validate({"image_size": 32, "resize_size": whole, "resize_filter": kind})
    assert torch.equal(formed(image, form), expected)


def test_at_224_pixels_a_photograph_is_as_in_most_of_torchvisions_presets() -> None:
    image = Image.fromarray(load_sample_image("china.jpg"))
    expected = ImageClassification(crop_size=224, mean=(0.0,), std=(1.0,))(image)
    assert torch.equal(formed(image, ImageForm(image_size=224)), expected)


@pytest.mark.parametrize("size", SIZES)
def test_a_squashed_image_has_the_pixels_of_torchvisions_resize(size: tuple[int, int]) -> None:
    image = picture(size=size)
    steps = [transforms.Resize((32, 32)), transforms.ToTensor()]
    form = ImageForm(image_size=32, resize_mode="squash")
    assert torch.equal(formed(image, form), transforms.Compose(steps)(image))
    steps = [transforms.Resize((36, 36)), transforms.CenterCrop(32), transforms.ToTensor()]
    form = ImageForm(image_size=32, resize_mode="squash", resize_size=36)
    assert torch.equal(formed(image, form), transforms.Compose(steps)(image))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("values", [{}, {"image_size": 9}, {"channels": 3}, {"channels": 1}])
def test_the_shape_is_known_before_the_pixels(
    size: tuple[int, int], mode: str, values: dict[str, int]
) -> None:
    form = ImageForm.model_validate(values)
    channels, height, width = formed(picture(mode, size), form).shape
    found = Shape(*size, 3 if mode == "RGB" else 1)
    assert form.shape(found) == Shape(width, height, channels)


def test_grey_images_are_repeated_and_colours_made_grey() -> None:
    grey, colours = picture("L"), picture("RGB")
    repeated = formed(grey, ImageForm(channels=3))
    assert torch.equal(repeated, formed(grey, UNCHANGED).expand(3, -1, -1))
    made_grey = formed(colours, ImageForm(channels=1))
    assert torch.equal(made_grey, formed(colours.convert("L"), UNCHANGED))


def test_an_image_too_long_to_be_resized_is_refused(tmp_path: Path) -> None:
    form = ImageForm(image_size=32)
    with pytest.raises(ValueError, match="resized to 37 x"):
        form.shape(Shape(1, MOST_PIXELS, 3))
    root = write_folder(tmp_path)
    write_image(root / "train" / "cat" / "x.png", size=(1, 1600))
    form = ImageForm(image_size=2048)
    message = refusal(lambda: load_dataset("folder", root, form=form))
    assert "train/cat/x.png would be resized to 2341 x" in message


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"resize_size": 40}, "pass --image-size too"),
        ({"resize_mode": "squash"}, "pass --image-size too"),
        ({"resize_filter": "bicubic"}, "pass --image-size too"),
        ({"image_size": 32, "resize_size": 31}, "31 is less than --image-size, 32"),
        ({"image_size": 0}, "greater than or equal to 1"),
        ({"channels": 2}, r"must be 1 \(grey\) or 3 \(RGB\); got 2"),
    ],
)
def test_values_that_make_no_sense_are_refused(values: dict[str, object], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        ImageForm.model_validate(values)


def test_what_a_configuration_stores_is_valid_again() -> None:
    for form in (UNCHANGED, ImageForm(image_size=9, resize_mode="squash", channels=1)):
        assert ImageForm.model_validate(form.model_dump()) == form
        assert ImageForm.model_validate(form.model_dump(mode="json")) == form


def test_images_too_large_to_be_certified_as_they_are_are_refused(tmp_path: Path) -> None:
    root = write_folder(tmp_path)
    for path in root.rglob("*.png"):
        write_image(path, "1", size=(2049, 2048))
    message = refusal(lambda: load_dataset("folder", root))
    assert message.endswith("0.png is 2049 x 2048 grey, too large to certify; pass `image_size`")
    dataset = load_dataset("folder", root, form=ImageForm(image_size=4))
    assert dataset.train.load([0]).shape == (1, 1, 4, 4)


def test_images_of_different_sizes_fit_once_they_are_resized(tmp_path: Path) -> None:
    root = write_folder(tmp_path)
    write_image(root / "train" / "cat" / "9.png", size=(20, 30))
    assert "`image_size`" in refusal(lambda: load_dataset("folder", root))
    dataset = load_dataset("folder", root, form=ImageForm(image_size=6))
    images = dataset.train.load(range(7))
    assert images.shape == (7, 3, 6, 6)
    # Still of 8 bits, as quantised noise requires.
    assert dataset.pixel_steps == 255
    assert torch.allclose((images * 255).round(), images * 255, atol=1e-4)


def test_both_parts_of_a_whole_folder_get_the_form(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        for number in range(5):
            write_image(tmp_path / name / f"{number}.png", size=(7 + number, 9))
    dataset = load_dataset("folder", tmp_path, form=ImageForm(image_size=6))
    assert dataset.train.load(range(8)).shape == (8, 3, 6, 6)
    assert dataset.test.load(range(2)).shape == (2, 3, 6, 6)


def test_grey_and_rgb_images_fit_once_they_have_the_same_channels(tmp_path: Path) -> None:
    root = write_folder(tmp_path, "L")
    write_image(root / "train" / "dog" / "1.png", "RGB")
    assert "`channels` 3" in refusal(lambda: load_dataset("folder", root))
    dataset = load_dataset("folder", root, form=ImageForm(channels=3))
    assert dataset.train.load(range(6)).shape == (6, 3, 5, 7)
    assert dataset.notes == ("repeated 11 grey images in three channels",)
    dataset = load_dataset("folder", root, form=ImageForm(channels=1))
    assert dataset.train.load(range(6)).shape == (6, 1, 5, 7)
    assert dataset.notes == ("made 1 image grey",)


def test_other_data_sets_are_brought_into_the_form_too() -> None:
    plain = load_dataset("digits")
    dataset = load_dataset("digits", form=ImageForm(image_size=12, resize_size=12, channels=3))
    image = dataset.test.load([4])[0]
    pixels = (plain.test.load([4])[0, 0] * 255).round().byte().numpy()
    expected = Image.fromarray(pixels).convert("RGB").resize((12, 12), Image.Resampling.BILINEAR)
    assert np.array_equal((image * 255).round().permute(1, 2, 0), np.asarray(expected))
    assert dataset.pixel_steps == 255
    assert torch.equal(dataset.test.labels, plain.test.labels)
