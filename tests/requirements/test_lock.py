"""The lock: complete, hashed, the same in all its files, and enforced where it is installed."""

import hashlib
import re
import shlex
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.commands import ROOT

FILES = [ROOT / "constraints.txt", *sorted((ROOT / "requirements").glob("*.txt"))]
RUN, DEV, INVENTORY = (
    ROOT / "requirements" / name for name in ("run.txt", "dev.txt", "inventory.txt")
)
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())


def pinned(path: Path) -> dict[str, list[str]]:
    """What a file pins, with its markers, and the hashes of each."""
    lines = path.read_text().replace("\\\n", " ").splitlines()
    found = {}
    for line in lines:
        if re.match(r"\w", line):
            requirement, *hashes = re.split(r"\s+--hash=", line)
            assert requirement.strip() not in found, line
            found[requirement.strip()] = hashes
    return found


def asked_for(*extras: str) -> list[Requirement]:
    """What pyproject.toml asks for to build and run, and for some extras."""
    project = PROJECT["project"]
    listed = [*PROJECT["build-system"]["requires"], *project["dependencies"]]
    for extra in extras:
        listed += project["optional-dependencies"][extra]
    return [found for found in map(Requirement, listed) if found.name != project["name"]]


def versions(*locks: Path) -> set[tuple[str, str]]:
    pins = [Requirement(line) for lock in locks for line in pinned(lock)]
    return {(canonicalize_name(pin.name), next(iter(pin.specifier)).version) for pin in pins}


def unmet(requirements: list[Requirement], *locks: Path) -> list[str]:
    locked = versions(*locks)

    def met(wanted: Requirement) -> bool:
        pins = [version for name, version in locked if name == canonicalize_name(wanted.name)]
        return bool(pins) and all(wanted.specifier.contains(pin) for pin in pins)

    return [str(wanted) for wanted in requirements if not met(wanted)]


@pytest.mark.parametrize(("path", "least"), [(RUN, 100), (DEV, 100), (INVENTORY, 20)])
def test_every_package_has_one_version_and_hashes(path: Path, least: int) -> None:
    assert len(pinned(path)) > least
    for requirement, hashes in pinned(path).items():
        assert re.fullmatch(r"[\w.-]+(\[[\w,-]+\])?==[\w.!+]+( ; .+)?", requirement)
        assert hashes, f"{requirement} has no hash"
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", value) for value in hashes)


def test_what_is_asked_for_is_locked() -> None:
    assert unmet(asked_for(), RUN) == [], "run `make lock`"
    extras = PROJECT["project"]["optional-dependencies"]
    assert unmet(asked_for(*extras), RUN, DEV) == [], "run `make lock`"
    listing = [Requirement(wanted) for wanted in PROJECT["dependency-groups"]["inventory"]]
    assert unmet(listing, INVENTORY) == [], "run `make lock`"


def test_all_files_name_the_same_versions() -> None:
    assert versions(RUN, DEV) == versions(ROOT / "constraints.txt"), "run `make lock`"


def test_nothing_makes_ray_slow_to_import() -> None:
    # jsonschema, which Ray imports, imports it if it is there. It builds a parser, for seconds on a
    # slow machine: Ray's agents then miss the 15 s that they have to start.
    assert "rfc3987-syntax" not in {name for name, _ in versions(RUN, DEV)}


def test_no_file_says_where_packages_come_from() -> None:
    options = set()
    for path in FILES:
        assert "//" not in path.read_text()
        options |= set(re.findall(r"^-.*$", path.read_text(), flags=re.MULTILINE))
    assert options == {"-r run.txt", "--only-binary :all:"}


def installs() -> list[list[str]]:
    """The arguments of each `pip install` in the Makefile and the Dockerfile, but that of uv."""
    text = "\n".join((ROOT / name).read_text() for name in ("Makefile", "deploy/Dockerfile"))
    found = [shlex.split(line) for line in re.findall(r"\bpip install (.*)", text)]
    return [arguments for arguments in found if not arguments[-1].startswith("uv==")]


def test_everything_is_installed_by_its_hash_and_the_project_without_an_index() -> None:
    assert len(installs()) == 5
    for arguments in installs():
        if "--require-hashes" in arguments:
            assert arguments[-2] == "--requirement"
        else:
            assert {"--no-index", "--no-build-isolation"} <= set(arguments)


WHEEL = "decrop_tiny-1-py3-none-any.whl"


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    """A folder with one package."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    with zipfile.ZipFile(folder / WHEEL, "w") as wheel:
        info = "decrop_tiny-1.dist-info"
        wheel.writestr("decrop_tiny.py", "")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: decrop-tiny\nVersion: 1\n")
        tags = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        wheel.writestr(f"{info}/WHEEL", tags)
        wheel.writestr(f"{info}/RECORD", "")
    return folder


@pytest.mark.parametrize(
    ("given", "said"),
    [("right", ""), ("wrong", "THESE PACKAGES DO NOT MATCH THE HASHES"), ("none", "hash")],
)
def test_a_file_with_another_hash_is_not_installed(shelf: Path, given: str, said: str) -> None:
    digest = hashlib.sha256((shelf / WHEEL).read_bytes()).hexdigest()
    if given == "wrong":
        digest = digest[::-1]
    lock = shelf.parent / "lock.txt"
    lock.write_text(f"decrop-tiny==1 {'' if given == 'none' else f'--hash=sha256:{digest}'}\n")
    (flags,) = {tuple(found[:-1]) for found in installs() if "requirements/$(LOCK).txt" in found}
    place = ["--no-index", f"--find-links={shelf}", f"--target={shelf.parent / 'installed'}"]
    command = [sys.executable, "-m", "pip", "install", *flags, str(lock), *place]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) == (given == "right"), done.stderr
    assert said in done.stderr
    assert (shelf.parent / "installed" / "decrop_tiny.py").exists() == (given == "right")
