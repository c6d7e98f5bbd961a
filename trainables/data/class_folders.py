"""The image files of class folders, and what else lies among them."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from trainables.data.image_files import IMAGE_SUFFIXES
from trainables.data.notes import Notes
from trainables.errors import InputError, printable

LAYOUTS = "a data folder holds train/CLASS/IMAGE and test/CLASS/IMAGE, or else CLASS/IMAGE"
# Left by operating systems, archives and notebooks; names that begin with a dot are hidden anyway.
DEBRIS = {
    *("__macosx", "__pycache__", "@eadir", "$recycle.bin", "lost+found"),
    *("system volume information", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"),
}
# Classes of these names are parts of a data set, unless there is only one of them.
PARTS = {
    *("train", "training", "trainset", "test", "testing", "testset"),
    *("val", "valid", "validation", "dev", "eval", "evaluation"),
}
# Names in a message.
MENTIONED = 5

# The class folder to which a folder on the disk belongs: no image may have two labels, or be for
# training and for testing.
Owners = dict[Path, Path]


def class_names(folder: Path, notes: Notes) -> tuple[str, ...]:
    """The names of the class folders in `folder`, sorted; `notes` count what else it holds.

    Raises:
        InputError: when they are fewer than two, are parts of a data set and not classes, or cannot
            be written into tables.
    """
    names = []
    for path in _visible(folder, notes):
        if path.is_dir():
            names.append(path.name)
        else:
            notes.add("left out {n} file{s} outside the class folders", path.name)
    if len(names) < 2:
        raise InputError(
            f"{folder} has {len(names)} class folders; it needs 2 or more ({LAYOUTS})",
            field="data_dir",
        )
    if len(parts := [name for name in names if name.casefold() in PARTS]) > 1:
        raise InputError(
            f"{folder} has {_listed(parts)} in place of classes; name the two that count train "
            f"and test ({LAYOUTS})",
            field="data_dir",
        )
    for name in names:
        if printable(name) != name:
            raise InputError(
                f"the class folder {folder / name} has a name that cannot be printed; rename it",
                field="data_dir",
            )
    return tuple(names)


def note_beside(root: Path, sides: Collection[str], notes: Notes) -> None:
    """Count in `notes` what lies beside the training and the test folder in `root`."""
    for path in _visible(root, notes):
        if path.name not in sides:
            kind = "folder" if path.is_dir() else "file"
            notes.add(f"left out {{n}} {kind}{{s}} beside train and test", path.name)


def check_same_classes(classes: Mapping[Path, Sequence[str]]) -> None:
    """Refuse training and test folders with different classes, and name these.

    Raises:
        InputError: when they differ.
    """
    (train, trained), (test, tested) = classes.items()
    if trained == tested:
        return
    only = {
        train: sorted(set(trained) - set(tested)),
        test: sorted(set(tested) - set(trained)),
    }
    told = [f"only {folder.name} has {_listed(names)}" for folder, names in only.items() if names]
    same = _composed(trained) == _composed(tested)
    raise InputError(
        f"{train} and {test} hold different classes: {'; '.join(told)}"
        + (" (the same names, but their accents are encoded differently)" if same else ""),
        field="data_dir",
    )


def list_images(folder: Path, owners: Owners, notes: Notes) -> list[Path]:
    """The image files of a class, folders in it included, in the order of ImageFolder.

    `owners` are the folders that were read before, and those that are read now are added.

    Raises:
        InputError: when there are none, or some are in a different class as well.
        OSError: when a folder cannot be read.
    """
    own = Notes()
    found = sorted(_walk(folder, owners, own), key=lambda path: (str(path.parent), path.name))
    if not found:
        held = f" ({'; '.join(own.lines)})" if own.lines else ""
        raise InputError(f"{folder} holds no images{held}", field="data_dir")
    notes.include(own)
    return found


def _walk(folder: Path, owners: Owners, notes: Notes) -> Iterator[Path]:
    """The image files in `folder` and below it, through symbolic links too."""
    above = folder.resolve().parents
    pending = [folder]
    while pending:
        place = pending.pop()
        real = place.resolve()
        owner = owners.get(real)
        if owner not in (None, folder):
            raise InputError(
                f"{place} is the same folder as {owner}, or one in it; remove the symbolic link",
                field="data_dir",
            )
        if owner == folder or real in above:
            # A loop, or a second way to the same images.
            notes.add("left out {n} link{s} to folders that are read already", place.name)
            continue
        owners[real] = folder
        for path in _visible(place, notes):
            if path.is_dir():
                # Links last, so that a folder counts as read through its own name.
                pending.insert(0 if path.is_symlink() else len(pending), path)
            elif path.suffix.lower() in IMAGE_SUFFIXES:
                yield path
            else:
                notes.add("left out {n} file{s} not named like images", path.suffix or path.name)


def _visible(folder: Path, notes: Notes) -> list[Path]:
    """What `folder` holds, sorted, without what is hidden or left by other programs."""
    seen = []
    for path in sorted(folder.iterdir()):
        hidden = path.name.startswith(".")
        if hidden or path.name.casefold() in DEBRIS:
            kind = "folder" if path.is_dir() else "file"
            what = f"hidden {kind}{{s}}" if hidden else f"{kind}{{s}} made by other programs"
            notes.add(f"left out {{n}} {what}", path.name)
        else:
            seen.append(path)
    return seen


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MENTIONED} more" if len(names) > MENTIONED else ""
    return ", ".join(printable(name) for name in names[:MENTIONED]) + more


def _composed(names: Sequence[str]) -> list[str]:
    return sorted(unicodedata.normalize("NFC", name) for name in names)
