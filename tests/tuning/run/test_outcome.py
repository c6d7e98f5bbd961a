"""What came of a run, in TensorBoard and in the note of its study."""

from pathlib import Path

import optuna
import pytest
from optuna_dashboard import get_note
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from results.run import load_run
from results.sentences import headline, sentence
from results.verdict import judge_all
from tests.support.invented import write_run
from tuning.config import RunConfig
from tuning.monitoring.tensorboard import StudyBoard
from tuning.run.outcome import write_outcome
from tuning.study.database import sqlite_url

SETTING = "digits-10shot"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = write_run(tmp_path / "x")
    optuna.create_study(study_name=SETTING, storage=sqlite_url(folder / "study.db"))
    StudyBoard(folder / "tensorboard" / SETTING).columns({}, [], "")
    return folder


def outcome(folder: Path) -> str:
    """Write it; returns the sentence."""
    run = load_run(folder)
    verdicts = judge_all(run)
    write_outcome(run, verdicts, RunConfig(name=folder.name, out=folder.parent))
    return sentence(headline(verdicts[SETTING]))


def test_each_variant_has_a_run_with_what_was_certified(folder: Path) -> None:
    # As a run that was finished before and is resumed.
    outcome(folder)
    said = outcome(folder)
    (summary,) = (setting.summary for setting in load_run(folder).settings)
    for row in summary:
        run = f"certified {row['variant'].replace('_', ' ')}"
        found = EventAccumulator(str(folder / "tensorboard" / SETTING / run)).Reload()
        values = {tag: [e.value for e in found.Scalars(tag)] for tag in found.Tags()["scalars"]}
        assert values["certified/score"] == pytest.approx([row["score"]])
        right = row["certified_accuracy_0_5"]
        assert values["certified/accuracy at 0.5"] == pytest.approx([right])
        assert values["certified/wrong at 0.25"] == pytest.approx([row["certified_wrong_0_25"]])
        assert values["certified/clean accuracy"] == pytest.approx([row["certified_accuracy_0"]])
        texts = found.Tags()["tensors"]
        assert ("what was proved/text_summary" in texts) == (row["variant"] == "best")
        if row["variant"] == "best":
            (text,) = found.Tensors("what was proved/text_summary")
            assert said in text.tensor_proto.string_val[0].decode()


def test_the_note_of_the_study_begins_with_what_was_proved(folder: Path) -> None:
    said = outcome(folder)
    study = optuna.load_study(study_name=SETTING, storage=sqlite_url(folder / "study.db"))
    heading, first, *_ = get_note(study).split("\n\n")
    assert heading == "## x: digits-10shot"
    assert first == f"**{said}**"
    assert f"`{folder / 'report.html'}`" in get_note(study)


def test_a_run_that_only_certifies_again_gets_neither(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "certified")
    outcome(folder)
    assert not (folder / "tensorboard").exists()
    assert not (folder / "study.db").exists()
