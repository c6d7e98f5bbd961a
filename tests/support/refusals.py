"""What command lines are refused with, on record: python -m tests.support.refusals writes it anew.

The record holds command lines, each followed by the line that it ends with. A refused command ends
with exit code 2 and one line, prints nothing else and leaves nothing behind.
"""

import contextlib
import io
import os
import re
import shlex
import sys
import tempfile
from pathlib import Path

from trainables.models.architectures import CifarResNet, DigitsCNN
from trainables.models.denoisers import DnCNN
from trainables.weights.checkpoint import save_classifier
from trainables.weights.denoiser_file import denoiser_bytes
from tuning.__main__ import main as decrop

RECORD = Path(__file__).parents[1] / "tuning" / "refusals.txt"
# Flags that tests need and that no refusal is about; later ones win. --verify takes no others.
WHERE = {"launch": ["--out=runs", "--name=refused"], "certify": ["--out=certified"]}


def on_record() -> dict[str, str]:
    """The message of each command line."""
    lines = RECORD.read_text().splitlines()
    return {c: m.removeprefix("    ") for c, m in zip(lines[::2], lines[1::2], strict=True)}


def prepare(folder: Path) -> None:
    """Write the files that the command lines name."""
    save_classifier(folder / "colour.pt", "cifar_resnet20", CifarResNet(3))
    save_classifier(folder / "grey.pt", "cifar_resnet20", CifarResNet(3, channels=1))
    save_classifier(folder / "seven.pt", "digits_cnn", DigitsCNN(7))
    (folder / "colour.safetensors").write_bytes(denoiser_bytes(DnCNN(3, 3, 4)))
    contents = {
        "empty.pt": b"",
        "text.pt": b"no checkpoint at all",
        "code.pt": b"\x80\x02cos\nsystem\nq\x00.",
        "pointer.pt": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
        "page.pt": b"<!DOCTYPE html>\n<html>not found</html>\n",
        "ansi.yaml": b'name: "\\e[31mred"\nextends: digits\n',
        "list.yaml": b"[1, 2]",
        "torn.yaml": b"trials: [",
        "misspelt.yaml": b"trails: 3",
        "space.yaml": b"name: odd\nextends: digits\npublished: {learning_rat: 0.1}\n"
        b"parameters: {learning_rat: {low: 0.1, high: 1.0}}\n",
        "file": b"",
        "there/refused/config.yaml": b"seed: 1",
    }
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def refusal(command: str, folder: Path) -> str:
    """The line that a command line ends with in the prepared `folder`, where this process is."""
    _, name, *arguments = shlex.split(command)
    before = sorted(folder.rglob("*"))
    with (
        contextlib.redirect_stdout(io.StringIO()) as out,
        contextlib.redirect_stderr(io.StringIO()) as err,
    ):
        where = [] if "--verify" in arguments else WHERE.get(name, [])
        code = decrop([name, *where, *arguments])
    assert code == 2, command
    assert out.getvalue() == "", command
    assert sorted(folder.rglob("*")) == before, command
    start, line, end = re.split(r"^error: |\n$", err.getvalue())
    assert (start, end) == ("", ""), command
    assert "\n" not in line, command
    # How much there is on this machine.
    return re.sub(r"has \d+ (cores|GPUs)", r"has N \1", line)


def main() -> int:
    """Write the record anew."""
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder))
        os.chdir(folder)
        said = {command: refusal(command, Path(folder)) for command in on_record()}
    RECORD.write_text("".join(f"{command}\n    {line}\n" for command, line in said.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
