"""The command that serves an export: decrop serve EXPORT."""

import http.client
import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.support.exports import FACTORY, Constant, of_factory, write_export
from tests.support.failing import fails
from trainables.black_box.exchange import TOKEN_VARIABLE
from trainables.black_box.serve import main

ROOT = Path(__file__).resolve().parents[3]


def png() -> bytes:
    file = io.BytesIO()
    Image.new("L", (4, 4), 128).save(file, "PNG")
    return file.getvalue()


def test_bad_flags_are_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export = write_export(tmp_path / "export", Constant())
    assert "config.json is missing" in fails(main, capsys, tmp_path)
    assert "pass the one that the run used as --classifier" in fails(main, capsys, export)
    assert "--image-shape: is for a checkpoint" in fails(
        main, capsys, export, "--image-shape=1,4,4"
    )
    assert "--labels-only: is for a checkpoint" in fails(main, capsys, export, "--labels-only")
    named = f"--classifier={FACTORY.name}"
    assert "pass the classifier that the run used" in fails(main, capsys, export, named)
    linear = write_export(tmp_path / "linear", of_factory())
    assert f"ClassifierSpec('{FACTORY.name}', weights=FILE)" in fails(main, capsys, linear)
    assert "--device" in fails(main, capsys, linear, named, "--device=nowhere")


def test_the_command_serves_an_export_until_it_is_stopped(tmp_path: Path) -> None:
    export = write_export(tmp_path / "export", of_factory())
    command = [sys.executable, "-m", "tuning", "serve", str(export), "--port=0"]
    process = subprocess.Popen(
        [*command, f"--classifier={FACTORY.name}"],
        cwd=ROOT, env=os.environ | {TOKEN_VARIABLE: ""}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    line = process.stdout.readline()
    place = r"http://(127\.0\.0\.1:\d+)/"
    found = re.fullmatch(rf"serving {re.escape(str(export))} on {place}\n", line)
    assert found, line
    connection = http.client.HTTPConnection(found[1], timeout=300)
    connection.request("POST", "/certify", png())
    (proof,) = json.loads(connection.getresponse().read())["certificates"]
    assert proof["votes"] == 1050
    connection.close()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 130
    (logged,) = map(json.loads, errors.splitlines())
    assert (logged["path"], logged["status"], logged["images"]) == ("/certify", 200, 1)
