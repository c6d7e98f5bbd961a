"""A folder in which everything is there that the pages of the documentation name."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from torchvision.models import resnet18

from tests.support.commands import ROOT
from tests.support.documented import Command, commands
from tests.support.image_folders import write_image
from tests.support.runs import HANGING, SETTING, Finished
from trainables.weights.denoiser_file import denoiser_bytes, load_denoiser

# Nothing listens there.
NOWHERE = "127.0.0.1:1"
# The names by which pages mean runs.
RUNS = ("RUN1", "runs/NAME", "runs/A", "runs/first")
OTHERS = ("runs/B",)
# Words that stand for something, or that would take long.
WORDS = {
    "NAME": "digits",
    "...": None,
    "HOST:6379": NOWHERE,
    "10.0.0.1:6379": NOWHERE,
    "http://HOST:8265": f"http://{NOWHERE}",
    "http://127.0.0.1:8265": f"http://{NOWHERE}",
    # An eighth of the size that photographs have.
    "224": "28",
    "232": "29",
    "236": "30",
    "248": "31",
    "64": "16",
}


@dataclass
class Desk:
    """The folder, and the servers that were started in it, by the page that says so."""

    folder: Path
    served: dict[str, str] = field(default_factory=dict)
    _processes: list[subprocess.Popen[str]] = field(default_factory=list)

    def words(self, command: Command) -> list[str]:
        """The words of a command as they are typed here."""
        typed = [WORDS.get(word, word) for word in command.words]
        return [
            str(self.folder / "storage") if word.startswith("s3://") else word
            for word in typed
            if word is not None
        ]

    def address(self, page: str) -> str:
        """Where the server answers that the page says how to start; it is started once."""
        if page not in self.served:
            (command,) = (
                c for c in commands() if c.page == page and c.text.startswith("decrop serve ")
            )
            process = subprocess.Popen(
                [sys.executable, "-m", "tuning", *command.words[1:], "--port=0"],
                cwd=self.folder,
                env=os.environ | {"PYTHONPATH": str(ROOT)},
                stdout=subprocess.PIPE,
                text=True,
            )
            self._processes.append(process)
            assert process.stdout is not None
            said = process.stdout.readline()
            assert said.startswith(f"serving {command.words[2]} on http://127.0.0.1:"), said
            self.served[page] = said.split()[-1].rstrip("/")
        return self.served[page]

    def end(self) -> None:
        """End the servers."""
        for process in self._processes:
            process.terminate()
            process.communicate(timeout=HANGING)


@contextmanager
def desk(folder: Path, run: Finished, classifier: Path) -> Iterator[Desk]:
    """A desk with `run`, and with the digits and the `classifier` of a user."""
    torch.set_num_threads(1)
    run.copied(folder / "RUN")
    (folder / "runs").mkdir()
    for name in RUNS:
        (folder / name).symlink_to(folder / "RUN")
    run.copied(folder / "RUN2")
    for name in OTHERS:
        (folder / name).symlink_to(folder / "RUN2")
    export = folder / "RUN" / SETTING / "smoothed_classifier"
    for name in ("EXPORT", "smoothed_classifier"):
        (folder / name).symlink_to(export)
    for name in ("SPEC", "CHECKPOINT"):
        shutil.copy(classifier, folder / name)
    denoiser = load_denoiser((export / "denoiser.safetensors").read_bytes())
    (folder / "FILE").write_bytes(denoiser_bytes(denoiser))
    _write_digits(folder / "DIR")
    Image.open(folder / "DIR" / "test" / "3" / "0.png").save(folder / "three.png")
    _write_photos(folder / "photos")
    torch.save(resnet18(num_classes=3).state_dict(), folder / "resnet18.pth")
    tuned = timm.create_model("resnet18", num_classes=3)
    save_file(tuned.state_dict(), folder / "tuned.safetensors")
    made = Desk(folder)
    try:
        yield made
    finally:
        made.end()


def _write_digits(root: Path) -> None:
    digits = load_digits()
    for label in range(10):
        images = digits.images[digits.target == label]
        for part, chosen in (("train", images[:60]), ("test", images[60:70])):
            (root / part / str(label)).mkdir(parents=True)
            for number, image in enumerate(chosen):
                path = root / part / str(label) / f"{number}.png"
                Image.fromarray((image * 15.9375).astype(np.uint8)).save(path)


def _write_photos(root: Path) -> None:
    for label, name in enumerate(("bird", "cat", "dog")):
        for part, count in (("train", 15), ("test", 5)):
            for number in range(count):
                seed = 1000 * label + number
                write_image(root / part / name / f"{number}.png", size=(48, 40), seed=seed)
