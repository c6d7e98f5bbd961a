"""Locks all versions, in constraints.txt, and the hashes of their files, in requirements/*.txt.

`make lock` runs this, with uv beside it. Versions stay as they are, and what pyproject.toml newly
asks for is added. `make lock ARGS=--upgrade` takes the newest of everything, and
`--upgrade-package NAME` that of one.
"""

import re
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
UV = Path(sys.executable).with_name("uv")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
NOTE = "# {}, for every platform. Written by `make lock`.\n"
# What builds the project is installed with it: an isolated build would fetch it unchecked.
BUILD = "\n".join(PROJECT["build-system"]["requires"])


def compiled(output: str, *flags: str, sources: Sequence[str] = ("pyproject.toml", "-")) -> str:
    """What uv resolves for all platforms; versions that `output` names already are kept."""
    lowest = PROJECT["project"]["requires-python"].removeprefix(">=")
    form = ["--no-header", "--no-annotate", "--quiet", "--output-file", output]
    platforms = ["--universal", "--python-version", lowest]
    # Building a package from its source would run code, and fetch what builds it, unchecked.
    wheels = ["--only-binary", ":all:"]
    command = [UV, "pip", "compile", *sources, *form, *platforms, *wheels, *flags]
    subprocess.run(command, cwd=ROOT, input=BUILD, text=True, check=True)
    return (ROOT / output).read_text()


def entries(text: str) -> list[str]:
    """The packages of a requirements file, each with the lines of its hashes."""
    return re.split(r"^(?=\S)", text, flags=re.MULTILINE)


def main(arguments: list[str]) -> None:
    """Writes the four files."""
    versions = compiled("constraints.txt", "--extra", "dev", *arguments)
    hashed = ["--generate-hashes", "--emit-build-options"]
    known = [*hashed, "--constraints", "constraints.txt"]
    run = compiled("requirements/run.txt", *known)
    dev = compiled("requirements/dev.txt", *known, "--extra", "dev")
    group = ["--group", "inventory", *arguments]
    inventory = compiled("requirements/inventory.txt", *hashed, *group, sources=())

    users = set(entries(run))
    further = "".join(entry for entry in entries(dev) if entry not in users)
    dev = f"-r run.txt\n{further}"
    for name, title, text in (
        ("constraints.txt", "The versions everything is tested with", versions),
        ("requirements/run.txt", "What users need, with the hashes of its files", run),
        ("requirements/dev.txt", "What developing needs on top, likewise", dev),
        ("requirements/inventory.txt", "What `make sbom` needs, by its hashes", inventory),
    ):
        (ROOT / name).write_text(NOTE.format(title) + text)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except subprocess.CalledProcessError as failure:
        sys.exit(failure.returncode)
