import subprocess
import sys
from pathlib import Path

import pytest

from results.files import CONFIG, MANIFEST
from tuning.cluster.mirror import LOCK
from tuning.config import make_config, to_yaml
from tuning.errors import ConfigError
from tuning.launch import main
from tuning.run import start
from tuning.run.start import _resumed
from tuning.setting.fit import Fit

# Holds a lock until its standard input ends.
HOLDER = """
import filelock, sys
with filelock.FileLock(sys.argv[1]):
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_a_second_launcher_of_a_run_is_refused_while_the_first_goes_on(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    lock = tmp_path / "first" / LOCK
    lock.parent.mkdir()
    command = [sys.executable, "-c", HOLDER, str(lock)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "locked\n"
        # The first has the lock until it is told to end, so that to wait would be to wait for ever.
        assert main([f"--out={tmp_path}", "--name=first"]) == 2
        assert first.poll() is None
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == f"error: --name: another launcher is working on {lock.parent}\n"
    assert list(lock.parent.iterdir()) == [lock]


def test_a_run_that_another_launcher_began_meanwhile_is_not_overwritten(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "twice"

    def meanwhile(*_: object) -> dict[str, Fit]:
        folder.mkdir()
        (folder / CONFIG).write_text("name: of the other")
        return {}

    monkeypatch.setattr(start, "check_classifiers", meanwhile)
    assert main([f"--out={tmp_path}", "--name=twice"]) == 2
    assert capsys.readouterr().err == (
        f"error: --name: another launcher has worked on {folder} since this one started; go on "
        "from what it did with --resume, or pass a different --name\n"
    )
    assert (folder / CONFIG).read_text() == "name: of the other"


def test_a_run_that_another_launcher_extended_meanwhile_is_not_cut_short(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stored(tmp_path / "twice")
    config = tmp_path / "twice" / CONFIG
    extended = config.read_text() + "trials: 99\n"

    def meanwhile(*_: object) -> dict[str, Fit]:
        config.write_text(extended)
        return {}

    monkeypatch.setattr(start, "check_classifiers", meanwhile)
    assert main([f"--out={tmp_path}", "--name=twice", "--resume"]) == 2
    assert "another launcher has worked on" in capsys.readouterr().err
    assert config.read_text() == extended


def test_a_run_that_cannot_go_on_keeps_its_configuration(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    stored(tmp_path / "after")
    config = tmp_path / "after" / CONFIG
    before = config.read_bytes()
    (tmp_path / "after" / MANIFEST).write_text("{")
    assert main([f"--out={tmp_path}", "--name=after", "--resume"]) == 2
    assert "is damaged; delete it" in capsys.readouterr().err
    assert config.read_bytes() == before


def stored(folder: Path, **elsewhere: str) -> None:
    """A run folder named after what its configuration does not say."""
    folder.mkdir()
    config = make_config({"name": "before", "out": folder.parent, **elsewhere})
    (folder / CONFIG).write_text(to_yaml(config))


def test_a_renamed_run_resumes_under_its_new_name(tmp_path: Path) -> None:
    stored(tmp_path / "after")
    for given in ({"name": "after"}, {}):
        config = _resumed({"out": tmp_path, **given})
        assert config.run_folder == tmp_path / "after"


@pytest.mark.parametrize(
    ("field", "value"), [("storage", "STORAGE"), ("ledger", "postgresql://user@host/studies")]
)
def test_a_renamed_run_is_refused_if_it_is_known_elsewhere(
    tmp_path: Path, field: str, value: str
) -> None:
    stored(tmp_path / "after", **{field: value.replace("STORAGE", str(tmp_path / "copies"))})
    with pytest.raises(ConfigError, match=f"^--name: .*after was renamed, but --{field} knows"):
        _resumed({"out": tmp_path, "name": "after"})
