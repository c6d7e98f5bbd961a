from __future__ import annotations

import itertools
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from trainables.data.datasets import Dataset, TensorImages, load_dataset
from trainables.errors import InputError
from trainables.pretraining import training as pretraining
from trainables.pretraining.command import main
from trainables.pretraining.training import Recipe, Trained, augmented, train
from trainables.weights.checkpoint import weights_hash
from trainables.weights.sources import ClassifierSpec, load_base_classifier

torch.set_num_threads(1)
ROOT = Path(__file__).resolve().parents[3]
CPU = torch.device("cpu")


class Untouchable:
    """Images that may not be asked for anything."""

    @property
    def labels(self) -> Tensor:
        raise AssertionError("the test images were touched")

    def load(self, indices: Sequence[int]) -> Tensor:
        raise AssertionError("the test images were touched")


@dataclass(frozen=True)
class Decoded:
    """Images that are not in memory, as those of a folder."""

    images: TensorImages

    @property
    def labels(self) -> Tensor:
        return self.images.labels

    def load(self, indices: Sequence[int]) -> Tensor:
        return self.images.load(indices)


def dataset(images: Tensor, labels: Tensor, name: str = "folder", decoded: bool = True) -> Dataset:
    """Images uint8 or float32 [n, C, H, W] as a data set without test images."""
    train_images = TensorImages(images, labels)
    classes = tuple(map(str, range(int(labels.max()) + 1)))
    return Dataset(name, classes, Decoded(train_images) if decoded else train_images, Untouchable())


def random_pixels(count: int, channels: int, size: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = (count, channels, size, size)
    return torch.randint(256, shape, generator=generator, dtype=torch.uint8)


def coloured(count: int, channels: int = 3, size: int = 12) -> tuple[Tensor, Tensor]:
    """Noise images uint8 whose class is their brightness: dark, middle, bright."""
    labels = torch.arange(count) % 3
    shift = (labels * 60)[:, None, None, None]
    return (random_pixels(count, channels, size) // 4 + shift).byte(), labels


def run(data: Dataset, arch: str = "digits_cnn", **recipe: float) -> Trained:
    return train(data, arch, Recipe(**recipe), lambda _epoch, _loss: None, CPU)  # type: ignore[arg-type]


def hashes(trained: Trained) -> str:
    return weights_hash(trained.network)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    return lines[0]


def test_the_command_writes_a_classifier_that_recognises_digits_it_never_saw(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new folder" / "c.pt"
    assert main(["--dataset=digits", f"--out={out}", "--epochs=12"]) == 0
    captured = capsys.readouterr()
    assert captured.err.count("epoch ") == 12
    (line,) = captured.out.splitlines()
    command = shlex.split(line.partition("continue with: ")[2])
    assert command == ["python", "-m", "tuning.launch", "--dataset", "digits", "--classifier",
                       str(out)]  # fmt: skip
    assert [path.name for path in out.parent.iterdir()] == ["c.pt"]
    digits = load_dataset("digits")
    images = digits.test.load(range(500))
    classifier = load_base_classifier(ClassifierSpec(str(out)), images[:2])
    accuracy = float((classifier(images).argmax(1) == digits.test.labels).float().mean())
    assert accuracy > 0.93
    claimed = float(line.removeprefix("accuracy ").partition("%")[0]) / 100
    assert abs(claimed - accuracy) < 0.06
    assert "on 129 held-out training images" in line


def test_the_normalisation_is_that_of_the_training_images(tmp_path: Path) -> None:
    images, labels = coloured(700)
    images[:, 2] = 51
    assert len(images) > pretraining.CHUNK
    trained = run(dataset(images, labels), epochs=1)
    pixels = images.numpy().astype(np.float64) / 255
    assert trained.mean == pytest.approx(pixels.mean((0, 2, 3)).tolist(), abs=1e-6)
    expected = pixels.std((0, 2, 3)).tolist()
    assert trained.std[:2] == pytest.approx(expected[:2], rel=1e-5)
    assert trained.std[2] == 1.0


def test_the_accuracy_is_that_on_images_that_were_not_trained_on() -> None:
    images = random_pixels(300, 1, 8)
    generator = torch.Generator().manual_seed(1)
    data = dataset(images, torch.randint(2, (300,), generator=generator))
    trained = run(data, epochs=60, batch_size=30, learning_rate=0.05)
    normalised = (images.float() / 255 - trained.mean[0]) / trained.std[0]
    predicted = trained.network(normalised).argmax(1)
    known = float((predicted == data.train.labels).float().mean())
    # The labels are drawn by lot, so that there is nothing to learn but the images themselves.
    assert known > 0.85
    assert trained.accuracy < 0.75
    assert trained.held_out == 30


def test_weights_depend_on_the_seed_and_on_nothing_else() -> None:
    images, labels = coloured(120)
    data = dataset(images, labels)
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = run(data, epochs=2, seed=3)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(2)
    assert hashes(run(data, epochs=2, seed=3)) == hashes(first)
    assert hashes(run(data, epochs=2, seed=4)) != hashes(first)


def test_images_that_do_not_fit_into_memory_give_the_same_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images, labels = coloured(120)
    expected = hashes(run(dataset(images, labels), epochs=2))
    assert hashes(run(dataset(images, labels, decoded=False), epochs=2)) == expected
    monkeypatch.setattr(pretraining, "MEMORY", 0)
    assert hashes(run(dataset(images, labels), epochs=2)) == expected


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("mirror", [False, True])
def test_augmented_images_are_shifted_and_only_rgb_ones_are_mirrored(
    channels: int, mirror: bool
) -> None:
    images = torch.rand(200, channels, 16, 16, generator=torch.Generator().manual_seed(0)) + 1
    moved = augmented(images, mirror, torch.Generator().manual_seed(1)).numpy()
    padded = np.pad(images.numpy(), ((0, 0), (0, 0), (2, 2), (2, 2)))
    found: list[tuple[bool, int, int]] = []
    for before, after in zip(padded, moved, strict=True):
        matches = [
            (flipped, top, left)
            for flipped in (False, True)
            for top in range(5)
            for left in range(5)
            if np.array_equal(
                before[:, top : top + 16, left : left + 16][:, :, :: -1 if flipped else 1], after
            )
        ]
        assert len(matches) == 1
        found += matches
    assert {(top, left) for _, top, left in found} == set(itertools.product(range(5), range(5)))
    flips = sum(flipped for flipped, _, _ in found)
    assert 70 < flips < 130 if mirror and channels == 3 else flips == 0


def write_folder(root: Path, channels: int, size: int) -> None:
    images, labels = coloured(60, channels, size)
    for part in ("train", "test"):
        for index, (image, label) in enumerate(zip(images, labels, strict=True)):
            folder = root / part / f"class{int(label)}"
            folder.mkdir(parents=True, exist_ok=True)
            pixels = image.permute(1, 2, 0).numpy()
            Image.fromarray(pixels[..., 0] if channels == 1 else pixels).save(
                folder / f"{index}.png"
            )


@pytest.mark.parametrize(
    ("channels", "size", "arch"),
    [(1, 28, "digits_cnn"), (1, 40, "cifar_resnet20"), (3, 12, "cifar_resnet20")],
)
def test_the_architecture_follows_from_the_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], channels: int, size: int, arch: str
) -> None:
    write_folder(tmp_path / "my data", channels, size)
    out = tmp_path / "c.pt"
    arguments = [f"--data-dir={tmp_path / 'my data'}", f"--out={out}", "--epochs=2"]
    assert main(["--dataset=folder", *arguments, "--batch-size=18"]) == 0
    checkpoint = torch.load(out, weights_only=True)
    assert checkpoint["arch"] == arch
    assert len(checkpoint["mean"]) == channels
    images = torch.rand(2, channels, size, size)
    assert load_base_classifier(ClassifierSpec(str(out)), images).probe(images) == (3, 64)
    command = shlex.split(capsys.readouterr().out.partition("continue with: ")[2])
    assert command[5:7] == ["--data-dir", str(tmp_path / "my data")]


def test_an_architecture_can_be_chosen() -> None:
    images, labels = coloured(60, 3, 32)
    trained = run(dataset(images, labels), "mobilenet_v3_small", epochs=1, batch_size=27)
    assert trained.network(torch.rand(2, 3, 32, 32)).shape == (2, 3)


def test_a_tiny_data_set_is_one_batch() -> None:
    images, labels = coloured(9)
    assert run(dataset(images, labels), epochs=1, batch_size=64).held_out == 1


def test_a_diverging_training_is_refused() -> None:
    images, labels = coloured(60)
    with pytest.raises(InputError, match=r"^learning_rate: .* in epoch 2 with 1e\+20"):
        run(dataset(images, labels), epochs=2, learning_rate=1e20)


def test_an_existing_file_is_kept_unless_told_otherwise(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "c.pt"
    out.write_text("precious")
    arguments = ["--dataset=digits", f"--out={out}", "--epochs=1"]
    assert "--overwrite" in refused(capsys, *arguments)
    assert out.read_text() == "precious"
    assert main([*arguments, "--overwrite"]) == 0
    images = torch.rand(2, 1, 8, 8)
    assert load_base_classifier(ClassifierSpec(str(out)), images).probe(images) == (10, 64)


def test_an_interrupted_training_leaves_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "trainables.pretraining", "--dataset=digits",
               f"--out={tmp_path / 'c.pt'}", "--epochs=2000"]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    assert process.stderr is not None
    while not process.stderr.readline().startswith("epoch 2/"):
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 130
    assert out == ""
    assert err.splitlines()[-1].startswith("error: interrupted")
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []
