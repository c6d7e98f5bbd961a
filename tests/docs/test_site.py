"""The documentation as a site: it builds without a warning, and says what the code says."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from docs import generated
from results.schema import CERTIFICATES
from trainables.decrop.config import DecropConfig
from tuning.config import GROUPS

REPO = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("sphinx")
    built = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "docs", str(built)]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return built


def test_the_site_builds_without_a_warning_and_has_every_page(site: Path) -> None:
    for page in (REPO / "docs").glob("*.md"):
        assert (site / f"{page.stem}.html").is_file()
    python = (site / "python.html").read_text()
    for name in ("tuning.api.search", "tuning.api.certify", "results.objects.RunResults"):
        assert f'id="{name}' in python


def test_pages_need_nothing_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        sources = re.findall(
            r"""<(?:script|img)[^>]+src="([^"]+)"|<link[^>]+href="([^"]+)""", page.read_text()
        )
        assert not [found for pair in sources for found in pair if found.startswith("http")], page


def test_the_reference_has_every_flag_hyperparameter_and_column() -> None:
    flags, values, tables = generated.flags(), generated.hyperparameters(), generated.tables()
    for group in GROUPS.values():
        for name in group.model_fields:
            assert f"`--{name.replace('_', '-')}" in flags
    for name in DecropConfig.model_fields:
        assert f"| `{name}` |" in values
    assert "| `sigma` | standard deviation of the noise | (0, 4] | 0.25 |" in values
    assert (
        "| `stages` | 2: restart halfway, with the discriminator from there on | 1 or 2 | 2 |"
        in values
    )
    for field in CERTIFICATES:
        assert f"| `{field.name}` |" in tables


def test_what_is_not_changed_is_not_written_again(tmp_path: Path) -> None:
    generated.write(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    generated.write(tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before
    assert len(before) == 3


def test_the_messages_in_troubleshooting_are_those_of_the_code() -> None:
    folders = ("results", "trainables", "tuning")
    source = "".join(p.read_text() for folder in folders for p in (REPO / folder).rglob("*.py"))
    # Long messages are written in several parts.
    joined = re.sub(r"\"\s*\n\s*f?\"", "", source)
    page = (REPO / "docs" / "troubleshooting.md").read_text()
    messages = [
        message
        for heading in re.findall(r"^\*\*.+?\*\*(?=[:. ])", page, re.MULTILINE)
        for message in re.findall("`([^`-][^`]*)`", heading)
    ]
    assert len(messages) > 8
    for message in messages:
        for part in re.split(r"[0-9][0-9.%]*|digits", message):
            words = part.strip(" ,")
            assert words in joined, f"{message}: {words}"
