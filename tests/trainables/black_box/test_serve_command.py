import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from trainables.black_box import serve
from trainables.black_box.endpoint import HttpClassifier
from trainables.black_box.exchange import TOKEN_VARIABLE
from trainables.black_box.serve import main
from trainables.models.architectures import ARCHITECTURES
from trainables.weights.checkpoint import load_classifier, save_classifier

torch.set_num_threads(1)
pytestmark = pytest.mark.usefixtures("direct")
ROOT = Path(__file__).resolve().parents[3]


def checkpoint(folder: Path, arch: str = "digits_cnn") -> Path:
    mean = ARCHITECTURES[arch].mean
    network = ARCHITECTURES[arch].build(len(mean), 10)
    save_classifier(folder / f"{arch}.pt", arch, network)
    return folder / f"{arch}.pt"


@pytest.mark.parametrize(
    ("arch", "given", "shape"),
    [
        ("digits_cnn", None, (1, 8, 8)),
        ("digits_cnn", "1,16,12", (1, 16, 12)),
        ("cifar_resnet20", None, (3, 32, 32)),
    ],
)
def test_the_architecture_tells_the_shape_unless_a_flag_does(
    tmp_path: Path, arch: str, given: str | None, shape: tuple[int, int, int]
) -> None:
    classifier = load_classifier(checkpoint(tmp_path, arch))
    assert serve._shape(given, classifier) == shape


def fails(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(arguments) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert message.count("\n") == 1
    return message


def test_bad_flags_are_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(checkpoint(tmp_path))
    assert "does not exist" in fails(capsys, str(tmp_path / "none.pt"))
    for shape in ("8,8", "1,8,x", "1,8,0", "1,8,8,8", ""):
        assert "--image-shape" in fails(capsys, path, "--image-shape", shape)
    assert "(3, 8, 8)" in fails(capsys, path, "--image-shape", "3,8,8")
    assert "--port" in fails(capsys, path, "--port", "65536")
    assert "CHECKPOINT" in fails(capsys)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert f"127.0.0.1:{port}" in fails(capsys, path, "--port", port)


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_until_it_is_stopped(tmp_path: Path, ending: signal.Signals) -> None:
    path = checkpoint(tmp_path)
    command = [sys.executable, "-m", "trainables.black_box.serve", str(path), "--port=0"]
    environment = os.environ | {TOKEN_VARIABLE: ""}
    process = subprocess.Popen(
        [*command, "--threads=1", "--labels-only"],
        cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.fullmatch(rf"serving {re.escape(str(path))} on (http://127\.0\.0\.1:\d+/)\n", line)
    assert found, line
    images = torch.rand(3, 1, 8, 8)
    rows = HttpClassifier.connect(found[1])(images)
    assert torch.equal(rows.argmax(1), load_classifier(path)(images).argmax(1))
    process.send_signal(ending)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == (130 if ending == signal.SIGINT else -signal.SIGTERM)
    logged = [json.loads(line) for line in errors.splitlines()]
    assert [(line["method"], line["images"]) for line in logged] == [("GET", 0), ("POST", 3)]
