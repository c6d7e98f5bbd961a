"""Commands with inputs that nobody would have thought of: they end in one line, and write nothing.

`DECROP_FUZZ=20000` tries so many of each kind.
"""

import io
import json
import os
import resource
import shutil
import sqlite3
import tarfile
from collections.abc import Callable, Sequence
from contextlib import closing, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from search_spaces.space import SearchSpace
from trainables.errors import printable
from tuning.certify import main as certify
from tuning.config import RunConfig
from tuning.launch import main as launch

SOAK = int(os.environ.get("DECROP_FUZZ", "0"))
FIXTURES = Path(__file__).parents[1] / "fixtures"
# What a dry run reads of a run.
RESUMED_FROM = ("config.yaml", "manifest.json")
DOCUMENTED = {0, 1, 2, 3, 4}
MOST_KILOBYTES = 1_000_000
# These would ask a network, and wait for it.
ASK_OTHERS = {"cluster", "storage", "ledger", "download", "out", "name"}
FIELDS = sorted({*RunConfig.model_fields} - ASK_OTHERS)
HOSTILE = [
    *("", " ", "-", "--", "-1", "0", "1e999", "nan", "-inf", "0x10", "1_000", "012", "1:30", "٣"),
    *("9" * 400, "1e-400", "None", "null", "true", "[]", "{}", "[1,", "{a: b", "=", "a=b=c"),
    *("a\nb", "\x1b[31m", "\u202e", "\ud800", "x" * 5000, "../..", "/", "/dev/null", "/dev/zero"),
    *("*a", "&a [*a]", "!!python/object:os.system", "%YAML 9", "5%", "0%", "101%", "1,1,1", ","),
    *("digits", "digits,digits", "folder", "mnist", "certified-accuracy@nan", "acr", "pareto"),
    *("epochs=1e3", "epochs=0", "sigma=nan", "w_mmd=-0", "mix=2", "no_such=1", "epochs=[", "10s"),
]
VALUES = st.one_of(
    st.sampled_from(HOSTILE), st.text(max_size=30), st.integers().map(str), st.floats().map(str)
)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20),
    st.sampled_from(HOSTILE), st.dates(),
)  # fmt: skip
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


def examples(number: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The same so many examples each time, or those of a soak test."""
    return settings(
        max_examples=SOAK or number,
        derandomize=not SOAK,
        database=None,
        deadline=None,
        suppress_health_check=[*HealthCheck],
    )


class Said(NamedTuple):
    code: int
    out: str
    err: str


def run(main: Callable[[Sequence[str]], int], *arguments: str) -> Said:
    out, err, before = io.StringIO(), io.StringIO(), most_memory()
    with redirect_stdout(out), redirect_stderr(err):
        code = main(arguments)
    assert most_memory() - before < MOST_KILOBYTES
    return Said(code, out.getvalue(), err.getvalue())


def most_memory() -> int:
    """The most that this process ever had, in kilobytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def check_refusal(said: Said) -> None:
    """Whether it is one of a documented kind, in one line that a terminal can show."""
    assert said.code in DOCUMENTED - {0}, said
    last = said.err.removesuffix("\n").split("\n")[-1]
    assert last.startswith("error: "), said
    assert printable(last) == last, said
    assert "Traceback" not in said.err


def check(said: Said, folder: Path) -> None:
    """Whether a command that should write nothing was carried out, or refused."""
    if said.code:
        check_refusal(said)
        assert said.err.count("\n") == 1, said
    assert not any(folder.iterdir())


@given(st.lists(st.tuples(st.sampled_from(FIELDS), VALUES), min_size=1, max_size=4))
@examples(200)
def test_flags(tmp_path_factory: pytest.TempPathFactory, flags: list[tuple[str, str]]) -> None:
    folder = tmp_path_factory.mktemp("fuzzed")
    passed = [f"--{name.replace('_', '-')}={value}" for name, value in flags]
    check(run(launch, "--dry-run", f"--out={folder}", *passed), folder)


@given(st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=8), TREES, max_size=4))
@examples(100)
def test_configurations(
    tmp_path_factory: pytest.TempPathFactory, content: dict[str, object]
) -> None:
    check_file(tmp_path_factory, "--config", yaml.safe_dump(content).encode())


@given(
    st.fixed_dictionaries(
        {"name": st.just("x") | SCALARS},
        optional={
            **dict.fromkeys(sorted({*SearchSpace.model_fields} - {"name"}), TREES),
            "extends": st.sampled_from(["digits", "no_such", 3]),
            "parameters": st.dictionaries(st.sampled_from(["sigma", "epochs", "mix", "x"]), TREES),
        },
    )
)
@examples(100)
def test_spaces(tmp_path_factory: pytest.TempPathFactory, content: dict[str, object]) -> None:
    check_file(tmp_path_factory, "--space", yaml.safe_dump(content).encode())


@given(st.binary(max_size=200), st.sampled_from(["--config", "--space"]))
@examples(50)
def test_files_that_are_no_yaml(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, flag: str
) -> None:
    check_file(tmp_path_factory, flag, content)


def check_file(factory: pytest.TempPathFactory, flag: str, content: bytes) -> None:
    """Pass a file of such content."""
    folder = factory.mktemp("fuzzed")
    file = factory.mktemp("inputs") / "file.yaml"
    file.write_bytes(content)
    check(run(launch, "--dry-run", f"--out={folder}", f"{flag}={file}"), folder)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run in it."""
    folder = tmp_path_factory.mktemp("finished")
    with tarfile.open(FIXTURES / "run_of_votes_format_3.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    return folder / "runs"


def damaged(path: Path, how: str, place: int, others: Sequence[Path]) -> bool:
    """Damage a file; whether that changed it."""
    before = path.read_bytes()
    if how == "emptied":
        path.write_bytes(b"")
    elif how == "truncated":
        path.write_bytes(before[: place % len(before)])
    elif how == "flipped":
        at = place % len(before)
        path.write_bytes(before[:at] + bytes([before[at] ^ 1 << place % 8]) + before[at + 1 :])
    elif how == "of another":
        path.write_bytes(others[place % len(others)].read_bytes())
    else:
        path.unlink()
        if how == "a folder":
            path.mkdir()
    return not path.is_file() or meaning(path.suffix, path.read_bytes()) != meaning(
        path.suffix, before
    )


def meaning(suffix: str, content: bytes) -> object:
    """What is read of a file: not the unused bytes of a database, or the spaces of JSON."""
    try:
        if suffix == ".json":
            return json.loads(content)
        if suffix == ".db" and content:
            with closing(sqlite3.connect(":memory:")) as db:
                db.deserialize(content)
                version = db.execute("PRAGMA user_version").fetchall()
                return version, db.execute("SELECT * FROM counts").fetchall()
    except (ValueError, sqlite3.Error):
        pass
    return content


@given(
    st.integers(0, 10**9),
    st.sampled_from(["emptied", "truncated", "flipped", "of another", "missing", "a folder"]),
    st.integers(0, 10**9),
)
@examples(60)
def test_damaged_runs(
    finished: Path, tmp_path_factory: pytest.TempPathFactory, which: int, how: str, place: int
) -> None:
    out = tmp_path_factory.mktemp("damaged")
    shutil.copytree(finished, out, dirs_exist_ok=True)
    files = sorted(path for path in out.rglob("*") if path.is_file())
    path = files[which % len(files)]
    if not damaged(path, how, place, files):
        return
    before = contents(out)
    said = run(certify, "--verify", str(out / "finished"))
    check_refusal(said)
    if path.name in RESUMED_FROM:
        resumed = run(launch, "--resume", "--dry-run", f"--out={out}", "--name=finished")
        if resumed.code:
            check_refusal(resumed)
    assert contents(out) == before


def contents(folder: Path) -> dict[Path, bytes | None]:
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}
