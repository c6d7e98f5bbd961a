"""The list of what is installed, and its licences: `make sbom` and `make licences`."""

import json
import os
import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.utils import canonicalize_name

from tests.support.commands import ROOT

BIN = Path(sys.executable).parent
INVENTORY = ROOT / "build" / "inventory"
# Reads a list, and prints what is wrong with it; nothing if it is valid.
VALIDATE = """
import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
print(JsonStrictValidator(SchemaVersion.V1_6).validate_str(sys.stdin.read()) or "", end="")
"""


def made(target: str, build: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    # Whether the environment is up to date is not what these tests are about.
    known = [".venv/developing", "build/inventory/installed"]
    options = ["--no-print-directory", *(f"--assume-old={path}" for path in known), f"BIN={BIN}"]
    return subprocess.run(
        ["make", *options, target, f"BUILD={build}"],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def sbom(tmp_path_factory: pytest.TempPathFactory) -> str:
    if not (INVENTORY / "installed").exists():
        pytest.skip("what lists packages is not installed; `make sbom` does that")
    build = tmp_path_factory.mktemp("build")
    done = made("sbom", build)
    assert done.returncode == 0, done.stderr
    return (build / "sbom.json").read_text()


def test_the_list_is_valid(sbom: str) -> None:
    document = json.loads(sbom)
    # The form of 800 addresses would take a minute.
    for component in document["components"]:
        component.pop("externalReferences", None)
    assert invalid(document) == ""
    document["components"][0]["type"] = "unheard of"
    assert "unheard of" in invalid(document)


def invalid(document: dict[str, Any]) -> str:
    command = [str(INVENTORY / "bin" / "python"), "-c", VALIDATE]
    done = subprocess.run(
        command, input=json.dumps(document), capture_output=True, text=True, check=True
    )
    return done.stdout


def test_the_list_is_what_is_installed(sbom: str) -> None:
    document = json.loads(sbom)
    listed = {(canonicalize_name(c["name"]), c["version"]) for c in document["components"]}
    # Ray brings others, which it puts in the path of its own processes.
    places = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    found = metadata.distributions(path=sorted(places))
    installed = {(canonicalize_name(package.name), package.version) for package in found}
    assert listed == {pair for pair in installed if pair[0] != "decrop-tuning"}
    assert document["metadata"]["component"]["name"] == "decrop-tuning"


def test_the_list_says_nothing_about_this_machine(sbom: str) -> None:
    for text in (str(ROOT), sys.prefix, "file:"):
        assert text not in sbom


@pytest.fixture
def licences(tmp_path: Path) -> Any:
    pytest.importorskip("piplicenses", reason="pip-licenses is not installed")

    def checked(*lines: str) -> subprocess.CompletedProcess[str]:
        """With one more package, whose metadata say this of its licence."""
        info = tmp_path / "further" / "decrop_further-1.dist-info"
        info.mkdir(parents=True)
        text = ["Metadata-Version: 2.4", "Name: decrop-further", "Version: 1", *lines]
        (info / "METADATA").write_text("\n".join(text) + "\n")
        return made("licences", tmp_path, PYTHONPATH=str(info.parent))

    return checked


def test_what_is_installed_may_be_used(licences: Any, tmp_path: Path) -> None:
    done = licences("License-Expression: MIT")
    assert done.returncode == 0, done.stderr
    assert "decrop-further" in (tmp_path / "licences.txt").read_text()


@pytest.mark.parametrize(
    "lines",
    [
        [],
        ["License-Expression: AGPL-3.0-only"],
        ["License-Expression: MIT AND GPL-2.0-only"],
        ["License: our own"],
        [
            "Classifier: License :: OSI Approved :: MIT License",
            "Classifier: License :: OSI Approved :: GNU General Public License v3 (GPLv3)",
        ],
    ],
    ids=["none", "copyleft", "copyleft in part", "unknown", "two classifiers"],
)
def test_other_licences_fail(licences: Any, lines: list[str]) -> None:
    done = licences(*lines)
    assert done.returncode != 0
    assert "decrop-further:1" in done.stderr
