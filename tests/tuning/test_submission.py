from pathlib import Path

import pytest
import yaml

from tuning import submission
from tuning.config import make_config
from tuning.errors import ConfigError
from tuning.submission import _pack


def test_what_the_user_names_travels_under_its_content(tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text("name: mine")
    (tmp_path / "data" / "cat").mkdir(parents=True)
    (tmp_path / "data" / "cat" / "1.png").write_bytes(b"1")
    given = {"space": str(tmp_path / "space.yaml"), "data_dir": str(tmp_path / "data")}
    packed = []
    for number in range(2):
        job = tmp_path / f"job{number}"
        job.mkdir()
        _pack(make_config({"name": "x", "trials": 9, **given, "cluster": "http://h"}), job)
        packed.append(yaml.safe_load((job / "config.yaml").read_text()))
        assert (job / packed[-1]["space"]).read_text() == "name: mine"
        assert (job / packed[-1]["data_dir"] / "cat" / "1.png").read_bytes() == b"1"
        assert (job / "tuning" / "launch.py").is_file()
        assert not list(job.rglob("__pycache__"))
    assert packed[0] == packed[1]
    # What was not given, the run to resume may know better.
    assert set(packed[0]) == {"name", "trials", "space", "data_dir"}


def test_another_content_is_another_job(tmp_path: Path) -> None:
    names = set()
    for text in ("a", "b"):
        (tmp_path / "space.yaml").write_text(text)
        job = tmp_path / text
        job.mkdir()
        names.add(_pack(make_config({"name": "x", "space": str(tmp_path / "space.yaml")}), job))
    assert len(names) == 2


def test_paths_of_the_cluster_stay_as_they_are(tmp_path: Path) -> None:
    config = make_config({"name": "x", "data_dir": "/nowhere/here", "classifier": "m.n:build"})
    described = yaml.safe_load(_pack(config, tmp_path))
    assert (described["data_dir"], described["classifier"]) == ("/nowhere/here", "m.n:build")


def test_too_much_data_to_travel_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submission, "MOST_BYTES", 1000)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "large").write_bytes(bytes(2_000_000))
    (tmp_path / "job").mkdir()
    config = make_config({"name": "x", "data_dir": str(tmp_path / "data")})
    with pytest.raises(ConfigError, match=r"--data-dir: .*data has 2 MB, too much to travel"):
        _pack(config, tmp_path / "job")
