"""What lies in image folders besides images of one class each."""

import os
import shutil
from pathlib import Path

import pytest
from PIL import Image
from torchvision.datasets import ImageFolder

from tests.support.image_folders import write_folder, write_image
from tests.support.refusal import refusal
from trainables.data.datasets import load_dataset
from trainables.data.folder import FolderImages


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "images")


def paths(root: Path) -> list[Path]:
    """The training images that are used."""
    train = load_dataset("folder", root).train
    assert isinstance(train, FolderImages)
    return list(train.paths)


def notes(root: Path) -> tuple[str, ...]:
    return load_dataset("folder", root).notes


def test_images_in_deeper_folders_count_in_the_order_of_torchvisions_image_folder(
    folder: Path,
) -> None:
    for place in ("cat/b/1.png", "cat/b-c/0.png", "cat/a/d/7.JPG", "cat/10.PNG", "dog/x.y/3.ppm"):
        write_image(folder / "train" / place)
    expected = [(Path(path), label) for path, label in ImageFolder(folder / "train").samples]
    train = load_dataset("folder", folder).train
    assert list(zip(paths(folder), train.labels.tolist(), strict=True)) == expected
    assert len(expected) == 11


def test_images_one_folder_deeper_are_split_like_any_others(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        for number in range(5):
            write_image(tmp_path / name / "images" / f"{number}.png")
    dataset = load_dataset("folder", tmp_path)
    assert (len(dataset.train.labels), len(dataset.test.labels)) == (8, 2)


@pytest.mark.parametrize(
    "suffix", [".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"]
)
def test_all_formats_of_torchvisions_image_folder_and_gif_are_read(
    tmp_path: Path, suffix: str
) -> None:
    kind = {".pgm": "L", ".gif": "P"}.get(suffix, "RGB")
    for side in ("train", "test"):
        for name in ("cat", "dog"):
            write_image(tmp_path / side / name / f"0{suffix}", kind)
    assert load_dataset("folder", tmp_path).train.load([0]).shape == (
        *(1, 1 if kind == "L" else 3),
        *(5, 7),
    )


def test_hidden_files_and_debris_are_left_out_which_is_told(folder: Path) -> None:
    expected = paths(folder)
    for place in ("train/.ipynb_checkpoints/0-checkpoint.png", "test/.ipynb_checkpoints/0.png"):
        write_image(folder / place)
    write_image(folder / "train" / "__MACOSX" / "cat" / "0.png")
    write_image(folder / "train" / "cat" / "@eaDir" / "0.png")
    for place in ("train/cat/._0.png", "test/.DS_Store", "train/dog/Thumbs.db", "desktop.ini"):
        (folder / place).write_bytes(b"no image")
    assert paths(folder) == expected
    assert set(notes(folder)) == {
        "left out 2 hidden folders (.ipynb_checkpoints)",
        "left out 2 folders made by other programs (__MACOSX, @eaDir)",
        "left out 2 hidden files (.DS_Store, ._0.png)",
        "left out 2 files made by other programs (desktop.ini, Thumbs.db)",
    }


def test_whatever_else_is_left_out_is_told(folder: Path) -> None:
    for place in ("train/cat/a.txt", "train/dog/b.TXT", "test/dog/deep/c.avif", "test/cat/LICENSE"):
        (folder / place).parent.mkdir(exist_ok=True)
        (folder / place).touch()
    (folder / "train" / "README.md").touch()
    (folder / "labels.csv").touch()
    shutil.copytree(folder / "test", folder / "val")
    assert set(notes(folder)) == {
        "left out 4 files not named like images (.txt, .TXT, LICENSE, ...)",
        "left out 1 file outside the class folders (README.md)",
        "left out 1 file beside train and test (labels.csv)",
        "left out 1 folder beside train and test (val)",
    }


def test_changes_of_images_are_told_with_counts(folder: Path) -> None:
    exif = Image.Exif()
    exif[0x112] = 6
    for name in ("3", "4"):
        image = Image.new("RGB", (5, 7))
        image.save(folder / "train" / "cat" / f"{name}.jpg", exif=exif)
    write_image(folder / "train" / "dog" / "5.png", "P")
    assert notes(folder) == (
        "turned 2 images upright, by EXIF orientation",
        "converted 1 image with a palette to RGB",
    )


def test_where_nothing_is_left_out_nothing_is_told(folder: Path) -> None:
    assert notes(folder) == ()


def test_names_of_any_kind_are_read_and_told_on_one_line(folder: Path) -> None:
    for name in ("caf\u00e9 \u732b.png", "a\nb.png", "%s {n} [red].png"):
        write_image(folder / "train" / "cat" / name)
    raw = os.fsencode(folder / "train" / "cat") + b"/\xff\xfe.png"
    shutil.copy(folder / "train" / "cat" / "0.png", os.fsdecode(raw))
    (folder / "train" / "cat" / "x.a\x1b[31m\nb{n}").touch()
    assert len(paths(folder)) == 10
    assert notes(folder) == (r"left out 1 file not named like images (.a\x1b[31m\nb{n})",)
    write_image(folder / "train" / "cat" / "a\nb.png", size=(9, 9))
    assert r"cat/a\nb.png is 9 x 9 RGB" in refusal(lambda: load_dataset("folder", folder))


@pytest.mark.parametrize("name", ["c\nat", "\x1b[31m", "\udcff"])
def test_a_class_that_cannot_be_written_into_tables_is_refused(folder: Path, name: str) -> None:
    for side in ("train", "test"):
        (folder / side / "cat").rename(folder / side / name)
    message = refusal(lambda: load_dataset("folder", folder))
    assert "has a name that cannot be printed; rename it" in message
    message.encode()


def test_classes_may_have_names_in_any_script(folder: Path) -> None:
    names = ("\u732b", "\u06af\u0631\u0628\u0647\u200c\u0647\u0627")
    for side in ("train", "test"):
        (folder / side / "cat").rename(folder / side / names[0])
        (folder / side / "dog").rename(folder / side / names[1])
    assert load_dataset("folder", folder).classes == tuple(sorted(names))


def test_classes_whose_accents_are_encoded_differently_are_refused_saying_so(folder: Path) -> None:
    (folder / "train" / "cat").rename(folder / "train" / "caf\u00e9")
    (folder / "test" / "cat").rename(folder / "test" / "cafe\u0301")
    message = refusal(lambda: load_dataset("folder", folder))
    assert "accents are encoded differently" in message


def test_of_many_classes_that_differ_a_few_are_named(folder: Path) -> None:
    for number in range(9):
        write_image(folder / "test" / f"x{number}" / "0.png")
    message = refusal(lambda: load_dataset("folder", folder))
    assert message.endswith("different classes: only test has x0, x1, x2, x3, x4 and 4 more")


def test_an_empty_class_is_refused_saying_what_it_holds(folder: Path) -> None:
    for path in (folder / "train" / "cat").iterdir():
        path.rename(path.with_suffix(".heic"))
    message = refusal(lambda: load_dataset("folder", folder))
    assert message.endswith(
        "train/cat holds no images (left out 3 files not named like images (.heic))"
    )


@pytest.mark.parametrize(("train", "test"), [("Training", "Validation"), ("Train", "Test")])
def test_parts_of_a_data_set_are_not_taken_for_classes(folder: Path, train: str, test: str) -> None:
    (folder / "train").rename(folder / train)
    (folder / "test").rename(folder / test)
    message = refusal(lambda: load_dataset("folder", folder))
    assert f"has {', '.join(sorted((train, test)))} in place of classes" in message


def test_a_class_may_be_called_like_a_part(folder: Path) -> None:
    for side in ("train", "test"):
        (folder / side / "cat").rename(folder / side / "train")
    assert load_dataset("folder", folder).classes == ("dog", "train")


def test_train_and_val_without_test_are_refused_saying_what_to_do(folder: Path) -> None:
    (folder / "test").rename(folder / "val")
    message = refusal(lambda: load_dataset("folder", folder))
    assert message.endswith(
        "has train and val, but no test; name the folder with the images to certify test"
    )


def test_linked_folders_and_files_are_read(folder: Path, tmp_path: Path) -> None:
    expected = len(paths(folder))
    shutil.move(folder / "train" / "cat", tmp_path / "cats")
    (folder / "train" / "cat").symlink_to(tmp_path / "cats")
    write_image(tmp_path / "more" / "7.png")
    (folder / "train" / "dog" / "more").symlink_to(tmp_path / "more")
    (folder / "train" / "dog" / "8.png").symlink_to(tmp_path / "more" / "7.png")
    assert len(paths(folder)) == expected + 2
    assert notes(folder) == ()


@pytest.mark.parametrize("target", [".", "..", "../..", "deep"])
@pytest.mark.parametrize("name", ["again", "zz"])
def test_links_that_lead_back_end_and_are_told(folder: Path, target: str, name: str) -> None:
    write_image(folder / "train" / "cat" / "deep" / "0.png")
    expected = paths(folder)
    (folder / "train" / "cat" / name).symlink_to(target)
    assert paths(folder) == expected
    assert notes(folder) == (f"left out 1 link to folders that are read already ({name})",)


def test_links_that_branch_at_every_level_end(folder: Path) -> None:
    place = folder / "train" / "cat"
    for level in range(30):
        write_image(place / "d" / f"{level}.png")
        (place / "e").symlink_to("d")
        place /= "d"
    assert len(paths(folder)) == 36


def test_an_image_must_not_have_two_labels(folder: Path) -> None:
    (folder / "train" / "cat" / "more").symlink_to(folder / "train" / "dog")
    message = refusal(lambda: load_dataset("folder", folder))
    assert "train/dog is the same folder as" in message
    assert "train/cat, or one in it; remove the symbolic link" in message


def test_an_image_must_not_be_for_training_and_for_testing(folder: Path) -> None:
    shutil.rmtree(folder / "test")
    (folder / "test").symlink_to("train")
    message = refusal(lambda: load_dataset("folder", folder))
    assert "test/cat is the same folder as" in message
