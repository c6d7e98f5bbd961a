"""Images as their users have them: which are certified, as what, and which are refused."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from tests.support.exports import Constant
from trainables.data.form import ImageForm
from trainables.data.image_files import decode
from trainables.smoothing import SmoothedClassifier
from trainables.smoothing.export import ExportConfig
from trainables.smoothing.images import as_batch

torch.set_num_threads(1)
RNG = np.random.default_rng(0)
GREY, RGB = (RNG.integers(0, 256, (6, 5, *rest), dtype=np.uint8) for rest in ((), (3,)))


def config(shape: tuple[int, int, int], **changes: Any) -> ExportConfig:
    values = {
        "sigma": 0.25, "n0": 50, "n": 200, "alpha": 0.001, "num_classes": 3, "image_shape": shape,
        "classifier_hash": "0" * 64, "denoiser_hash": "0" * 64, "probes_hash": "0" * 64,
    }  # fmt: skip
    return ExportConfig.model_validate(values | changes)


def floats(pixels: Any) -> Tensor:
    planes = torch.from_numpy(pixels.copy()).float() / 255
    return planes[None] if planes.ndim == 2 else planes.permute(2, 0, 1)


@pytest.mark.parametrize("pixels", [GREY, RGB], ids=["grey", "RGB"])
def test_the_same_image_in_every_kind_is_the_same_tensor(pixels: Any) -> None:
    expected = floats(pixels)
    known = config(tuple(expected.shape))  # type: ignore[arg-type]
    kinds = [
        expected, expected.double(), expected.numpy(), expected.numpy().astype(np.float64),
        pixels, Image.fromarray(pixels), pixels[::-1][::-1], expected.clone().requires_grad_(),
    ]  # fmt: skip
    if pixels.ndim == 2:
        kinds.append(pixels[..., None])
    for kind in kinds:
        images, single = as_batch(kind, known)
        assert single
        assert images.dtype == torch.float32
        assert not images.requires_grad
        assert torch.equal(images[0], expected)
    images, single = as_batch(kinds, known)
    assert not single
    assert torch.equal(images, torch.stack([expected] * len(kinds)))


@pytest.mark.parametrize("count", [0, 1, 3])
def test_batches_of_tensors_and_arrays_are_several_images(count: int) -> None:
    pixels = RNG.integers(0, 256, (count, 6, 5, 3), dtype=np.uint8)
    expected = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    for batch in (expected, expected.numpy(), pixels, list(pixels), tuple(expected)):
        images, single = as_batch(batch, config((3, 6, 5)))
        assert (images.shape, single) == ((count, 3, 6, 5), False)
        assert torch.equal(images, expected)


@pytest.mark.parametrize(
    "form",
    [
        ImageForm(image_size=8),
        ImageForm(image_size=8, resize_size=11, resize_filter="bicubic"),
        ImageForm(image_size=8, resize_mode="squash", channels=1),
        ImageForm(image_size=8, channels=3),
    ],
    ids=["crop", "bicubic", "squash", "channels"],
)
@pytest.mark.parametrize("pixels", [GREY, RGB], ids=["grey", "RGB"])
def test_images_of_other_sizes_are_resized_as_files_of_the_run_were(
    form: ImageForm, pixels: Any, tmp_path: Path
) -> None:
    image = Image.fromarray(pixels)
    image.save(tmp_path / "a.png")
    expected = floats(decode(tmp_path / "a.png", form))
    known = config(tuple(expected.shape), image_form=form)  # type: ignore[arg-type]
    for kind in (image, pixels, Image.open(tmp_path / "a.png")):
        assert torch.equal(as_batch(kind, known).images[0], expected)


def test_an_image_of_the_certified_size_is_not_resized_again() -> None:
    form = ImageForm(image_size=6, channels=3)
    pixels = RNG.integers(0, 256, (6, 6), dtype=np.uint8)
    expected = floats(np.stack([pixels] * 3, axis=2))
    assert torch.equal(as_batch(pixels, config((3, 6, 6), image_form=form)).images[0], expected)


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_a_photograph_is_turned_upright_as_files_of_the_run_were(
    tmp_path: Path, orientation: int
) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(RGB).save(tmp_path / "a.png", exif=exif)
    expected = floats(decode(tmp_path / "a.png", ImageForm()))
    known = config(tuple(expected.shape))  # type: ignore[arg-type]
    with Image.open(tmp_path / "a.png") as image:
        assert torch.equal(as_batch(image, known).images[0], expected)


def transparent() -> Image.Image:
    return Image.fromarray(np.dstack((RGB, np.full((6, 5), 100, np.uint8))))


def damaged() -> Image.Image:
    file = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (6, 5, 3), dtype=np.uint8)).save(file, "PNG")
    return Image.open(io.BytesIO(file.getvalue()[:-30]))


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (transparent(), "transparent pixels"),
        (damaged(), "cannot be decoded"),
        (Image.fromarray(GREY), "is grey, but RGB images are certified; convert it to RGB"),
        (Image.fromarray(GREY.astype(np.int32)), "more than 8 bits"),
        (Image.fromarray(RGB).convert("LAB"), "colour mode LAB"),
        (Image.new("RGB", (5, 7)), r"shape \(3, 7, 5\), but \(3, 6, 5\) is certified"),
        (np.zeros((6, 5, 4), np.uint8), r"has the shape \(6, 5, 4\); an array of uint8 is"),
        (np.zeros((3, 6, 5), np.uint8), "an array of uint8 is"),
        (np.zeros((0, 5, 3), np.uint8), "an array of uint8 is"),
        (np.zeros((1, 1, 6, 5, 3), np.uint8), "an array of uint8 is"),
        (np.zeros((6, 5, 3)), r"shape \(6, 5, 3\), but \(3, 6, 5\) is certified"),
        (np.full((3, 6, 5), np.nan), "NaN"),
        (np.full((3, 6, 5), 255.0), r"outside \[0, 1\]; divide"),
    ],
)
def test_what_cannot_be_certified_is_refused_in_one_line(image: Any, said: str) -> None:
    with pytest.raises(ValueError, match=f"^the image .*{said}") as told:
        as_batch(image, config((3, 6, 5)))
    assert "\n" not in str(told.value)
    with pytest.raises(ValueError, match=f"^image 1 .*{said}"):
        as_batch([RGB, image], config((3, 6, 5)))


def test_an_image_that_would_fill_the_memory_when_resized_is_refused() -> None:
    known = config((3, 2000, 2000), image_form=ImageForm(image_size=2000))
    with pytest.raises(ValueError, match="would be resized to"):
        as_batch(Image.new("RGB", (4000, 4)), known)


def test_floats_are_not_resized() -> None:
    known = config((3, 8, 8), image_form=ImageForm(image_size=8))
    with pytest.raises(ValueError, match="8-bit images are resized"):
        as_batch(floats(RGB), known)


def smoothed(**changes: Any) -> SmoothedClassifier:
    return SmoothedClassifier(Constant(), config((3, 6, 5), **changes), seed=0)


def test_several_images_get_what_each_of_them_gets() -> None:
    one, several = smoothed(), smoothed()
    images: list[Any] = [RGB, floats(RGB), Image.fromarray(RGB)]
    assert several.certify(images) == [one.certify(image) for image in images]
    found = several.predict(images)
    assert found.dtype == torch.int64
    assert found.tolist() == [one.predict(image) for image in images] == [2, 2, 2]
    assert several(images).tolist() == [2, 2, 2]
    assert (several(RGB), one([]).tolist(), one.certify([])) == (2, [], [])


@pytest.mark.parametrize("procedure", ["fixed", "tolerance", "adaptive"])
def test_progress_is_told_and_changes_no_certificate(procedure: str) -> None:
    numbers = {"procedure": procedure, "radii": (0.1,), "n": 5000, "n0": 100}
    told: list[tuple[int, int]] = []
    images = [RGB, RGB]
    plain = smoothed(**numbers).certify(images)
    assert smoothed(**numbers).certify(images, progress=lambda *at: told.append(at)) == plain
    assert {most for _, most in told} == {2 * 5100}
    votes = [done for done, _ in told]
    assert votes == sorted(votes)
    assert votes[-1] == 10200
    assert 5100 in votes
    if procedure == "fixed":
        assert len(votes) > 6


def test_a_bar_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    smoothed().certify(RGB, progress=True)
    said = capsys.readouterr()
    assert "100%" in said.err
    assert said.out == ""
    smoothed().certify(RGB)
    assert capsys.readouterr().err == ""


def test_classes_have_their_names() -> None:
    named = smoothed(class_names=("ant", "bee", "cat"))
    assert named.class_names == ("ant", "bee", "cat")
    assert [named.name(label) for label in (-1, 0, named(RGB))] == ["abstains", "ant", "cat"]
    assert smoothed().class_names == ()
    assert smoothed().name(2) == "2"
    for label in (-2, 3):
        with pytest.raises(IndexError, match="3 classes"):
            named.name(label)


def test_votes_are_cast_on_the_device_that_was_named(monkeypatch: pytest.MonkeyPatch) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(90, 3))
    moved = SmoothedClassifier(network, config((3, 6, 5)))
    assert moved.to("cpu") is moved
    assert moved.to("meta").model[1].weight.device.type == "meta"  # type: ignore[index]
    seen = []

    def votes(model: nn.Module, image: Tensor, *rest: Any) -> list[int]:
        seen.append(image.device.type)
        return [0, 0, 50]

    monkeypatch.setattr("trainables.smoothing.smoothed.total_votes", votes)
    assert moved.predict(RGB) == 2
    assert seen == ["meta"]
