"""What a dry run says of what it cannot time."""

from pathlib import Path

import pytest

from tuning.config import make_config
from tuning.monitoring.progress import Reporter
from tuning.run.dry_run import describe_plan
from tuning.setting.setting import make_settings


def test_an_endpoint_is_not_timed_because_it_may_charge(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Nothing listens there.
    endpoint = {"classifier": "http://127.0.0.1:1/", "access": "black-box"}
    config = make_config({"name": "x", "out": tmp_path, "shots": "3", **endpoint})
    describe_plan(config, make_settings(config), Reporter(quiet=True), as_json=False)
    out, err = capsys.readouterr()
    assert "cost: not timed: an endpoint may charge for it\n" in out
    assert err == ""
