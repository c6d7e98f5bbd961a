"""A clock that is set back while a run goes on: a soak test, as CONTRIBUTING.md says."""

import os
from pathlib import Path

import pytest

from tests.support.runs import (
    SETTING,
    TINY,
    Finished,
    Launcher,
    check_equal,
    count,
    count_trials,
    ended,
    said,
    wait_until,
)

# libfaketimeMT.so.1 of version 0.9.11 or later: before, Python could not sleep with it.
FAKETIME = os.environ.get("DECROP_CLOCK")


@pytest.mark.skipif(FAKETIME is None, reason="DECROP_CLOCK names no libfaketime")
def test_a_clock_that_is_set_back_in_each_stage_changes_nothing(
    reference_run: Finished, launcher: Launcher, tmp_path: Path
) -> None:
    clock = tmp_path / "clock"
    clock.write_text("+0")
    wrong = launcher.knowing(
        LD_PRELOAD=str(FAKETIME),
        FAKETIME_TIMESTAMP_FILE=str(clock),
        FAKETIME_CACHE_DURATION="1",
        # Ray's health checks ask this clock, which nobody can set.
        FAKETIME_DONT_FAKE_MONOTONIC="1",
    )
    process = wrong.start("--name=clock", *TINY, "--concurrency=2")
    folder = launcher.folder / "clock"
    votes = "SELECT COUNT(*) FROM counts WHERE phase = 'estimate'"
    for hours, reached in enumerate(
        (
            lambda: count_trials(folder) >= 3,
            lambda: said(process, "confirmation trainings: 0"),
            lambda: count(folder / SETTING / "votes.db", votes) >= 3,
        ),
        start=1,
    ):
        wait_until(reached, process)
        clock.write_text(f"-{hours}h")
    ended(process)
    check_equal(folder, reference_run.folder)
    launcher.run("--name=clock", "--resume")
    check_equal(folder, reference_run.folder)
