"""What users read when a command line cannot be followed."""

from pathlib import Path

import pytest

from tests.support.refusals import on_record, prepare, refusal


@pytest.mark.parametrize("name", ["launch", "certify", "pretrain"])
def test_every_refusal_is_the_line_on_record(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(tmp_path)
    monkeypatch.chdir(tmp_path)
    expected = {c: line for c, line in on_record().items() if c.split()[1] == name}
    assert len(expected) > 10
    found = {command: refusal(command, tmp_path) for command in expected}
    assert found == expected, "if these are better: python -m tests.support.refusals"


def test_every_refusal_begins_with_a_flag_or_a_name_of_the_command_line() -> None:
    for command, line in on_record().items():
        subject = line.partition(":")[0]
        assert subject.startswith("--") or subject in command, line
