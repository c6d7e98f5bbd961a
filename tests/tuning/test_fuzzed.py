"""Flags and files that nobody would have thought of: they end in one line, and write nothing.

`DECROP_FUZZ=20000` tries so many of each kind.
"""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from results.report.command import main as report
from results.tracking.command import main as track
from search_spaces.space import SearchSpace
from tests.support.fuzzing import UNHURRIED, check, examples, run
from trainables.black_box.serve import main as serve
from trainables.smoothing.portable import main as export
from tuning.config import RunConfig
from tuning.launch import main as launch

pytestmark = UNHURRIED
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
# An argument ends at its first null character, and YAML allows none.
TEXTS = st.text(st.characters(exclude_characters="\0"), max_size=30)
VALUES = st.one_of(st.sampled_from(HOSTILE), TEXTS, st.integers().map(str), st.floats().map(str))
OTHERS = {"report": report, "track": track, "export": export, "serve": serve}
NAMES = ["run", "out", "to", "classifier", "weights", "port", "host", "threads", "device", "quiet"]
ARGUMENTS = st.one_of(
    VALUES.filter(lambda value: not value.startswith("http")),
    st.tuples(st.sampled_from(NAMES), VALUES).map(lambda pair: f"--{pair[0]}={pair[1]}"),
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


@given(st.lists(st.tuples(st.sampled_from(FIELDS), VALUES), min_size=1, max_size=4))
@examples(130)
def test_flags(tmp_path_factory: pytest.TempPathFactory, flags: list[tuple[str, str]]) -> None:
    folder = tmp_path_factory.mktemp("fuzzed")
    passed = [f"--{name.replace('_', '-')}={value}" for name, value in flags]
    check(run(launch, "--dry-run", f"--out={folder}", *passed), folder)


@given(st.sampled_from(sorted(OTHERS)), st.lists(ARGUMENTS, max_size=4))
@examples(40)
def test_other_commands(
    tmp_path_factory: pytest.TempPathFactory, name: str, arguments: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("fuzzed")
    # There is nothing to work on, whatever else is passed.
    said = run(OTHERS[name], str(folder / "none"), *arguments)
    assert said.code == 2, said
    check(said, folder)


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
@examples(60)
def test_spaces(tmp_path_factory: pytest.TempPathFactory, content: dict[str, object]) -> None:
    check_file(tmp_path_factory, "--space", yaml.safe_dump(content).encode())


@given(st.binary(max_size=200), st.sampled_from(["--config", "--space"]))
@examples(40)
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
