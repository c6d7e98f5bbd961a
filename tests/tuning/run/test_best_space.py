"""best.yaml: a space that is accepted, and that evaluates the winner beside the baselines."""

import shlex
from pathlib import Path
from typing import Any

import pytest

from results.store import write_text
from search_spaces import load_space
from tests.support.ledgers import result
from tests.support.records import record
from trainables.decrop.config import DecropConfig
from tuning.config import make_config
from tuning.flags import launch_line
from tuning.run.best_space import winning_space, write_best_space
from tuning.setting.setting import make_settings
from tuning.study.attempts import TrialRecord
from tuning.study.database import sqlite_url
from tuning.study.ledger import Ledger
from tuning.study.points import Plan

SEARCHED: dict[str, Any] = {
    "sigma": 0.3,
    "w_mmd": 0.0,
    "mix": 0.55,
    "schedule": "cosine",
    "equal_batches": True,
}


def winner(origin: str = "search", **changes: Any) -> TrialRecord:
    """A winner with the values that the digits' space holds fixed."""
    space = load_space("digits")
    return record(9, origin, **{**space.named, "epochs": 321, **changes})


def written(tmp_path: Path, trial: TrialRecord, **flags: Any) -> Path:
    given = {"dataset": "digits", "name": "first", "out": tmp_path, "trials": 40, **flags}
    (setting,) = make_settings(make_config(given))
    setting.folder.mkdir(parents=True)
    write_best_space(setting, trial, make_config(given))
    return setting.folder / "best.yaml"


def proposals(space_file: Path, trials: int) -> list[DecropConfig]:
    """What a study of the space tries, as it would be with one worker."""
    space = load_space(str(space_file))
    url = sqlite_url(space_file.parent / "study.db")
    ledger = Ledger(url, "digits", space, Plan(trials, 1, 0), (5, 20))
    found = []
    while proposal := ledger.next_proposal():
        found.append(proposal.hyperparameters)
        ledger.report(proposal.number, 20, 0.5, 1.0)
        ledger.tell(proposal.number, result(0.5, 20))
    return found


@pytest.mark.parametrize(
    ("origin", "changes"),
    [
        ("search", SEARCHED),
        ("start", {"learning_rate": 0.002}),
        ("transferred", {"sigma": 0.17, "ema_decay": 0.98}),
        ("search", {}),
        ("published", {}),
        ("published_sigma", {"sigma": 0.12}),
        ("label_consistency", {"w_cosine": 0.0, "w_mmd": 0.0, "reversal_strength": 0.0}),
    ],
)
def test_the_command_in_the_file_evaluates_the_winner_and_no_other_point(
    tmp_path: Path, origin: str, changes: dict[str, Any]
) -> None:
    trial = winner(origin, **changes)
    path = written(tmp_path, trial, budget="1h", set=["mix=0.5"] if not changes else [])
    command = path.read_text().splitlines()[1].removeprefix("# ")
    assert command.startswith("decrop launch ")
    config = make_config(launch_line().read(shlex.split(command)[2:]))
    assert (config.name, config.budget, config.space) == ("first-best", None, str(path))
    # All checks of a run, on the images themselves.
    (setting,) = make_settings(config)
    space = setting.space
    assert space.published.items() >= load_space("digits").published.items()
    tried = proposals(path, config.trials)
    searched = origin in ("search", "start", "transferred")
    baselines = len(proposals(tmp_path_of(path, "b"), 1))
    assert len(tried) == baselines + searched
    if searched:
        wanted = trial.hyperparameters.model_dump()
        found = tried[-1].model_dump()
        differing = {name for name in wanted if wanted[name] != found[name]}
        assert differing <= {"epochs", "mix"}
        assert changes.items() <= found.items()


def tmp_path_of(path: Path, name: str) -> Path:
    """A copy of the file in a folder of its own."""
    folder = path.parent / name
    folder.mkdir()
    copy = folder / path.name
    write_text(copy, path.read_text())
    return copy


def test_published_values_stay_what_they_are() -> None:
    space = load_space("digits")
    again = winning_space(space, winner(**SEARCHED))
    assert {n: again.named[n] for n in space.named} == space.named
    assert again.sweep == space.sweep
    assert again.start == (SEARCHED,)
