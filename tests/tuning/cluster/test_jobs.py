from pathlib import Path

import pytest

from tuning.cluster import jobs
from tuning.cluster.jobs import _packed
from tuning.errors import ConfigError


def test_what_the_user_names_travels_under_its_content(tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text("name: mine")
    (tmp_path / "data" / "cat").mkdir(parents=True)
    (tmp_path / "data" / "cat" / "1.png").write_bytes(b"1")
    given = {"space": str(tmp_path / "space.yaml"), "data_dir": str(tmp_path / "data"), "n": 9}
    found = []
    for _ in range(2):
        with _packed(given) as (job, values):
            found.append(values)
            assert (job / values["space"]).read_text() == "name: mine"
            assert (job / values["data_dir"] / "cat" / "1.png").read_bytes() == b"1"
            assert (job / "tuning" / "launch.py").is_file()
            assert not list(job.rglob("__pycache__"))
        assert not job.exists()
    assert found[0] == found[1]
    assert set(found[0]) == set(given)
    (tmp_path / "space.yaml").write_text("name: another")
    with _packed(given) as (_, values):
        assert values["space"] != found[0]["space"]
        assert values["data_dir"] == found[0]["data_dir"]


def test_paths_of_the_cluster_stay_as_they_are() -> None:
    given = {"data_dir": "/nowhere/here", "classifier": "m.n:build", "space": None}
    with _packed(given) as (_, values):
        assert values == given


def test_a_link_to_a_folder_is_refused_because_it_would_be_missing(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "data" / "cat").symlink_to(tmp_path / "elsewhere")
    with (
        pytest.raises(ConfigError, match=r"--data-dir: .*data/cat is a link to a folder"),
        _packed({"data_dir": str(tmp_path / "data")}),
    ):
        pass


def test_too_much_data_to_travel_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "MAX_BYTES", 1_999_999)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "large").write_bytes(bytes(2_000_000))
    with (
        pytest.raises(ConfigError, match=r"--data-dir: .*data has 2 MB, too much to send"),
        _packed({"data_dir": str(tmp_path / "data")}),
    ):
        pass
