"""What signals do to a command, in this process."""

import signal
import time
from collections.abc import Iterator

import pytest

from tests.support.signals import handlers_kept
from tuning.cluster.ending import Ending
from tuning.errors import Ended

TERM, HUP, INT = signal.SIGTERM, signal.SIGHUP, signal.SIGINT


@pytest.fixture
def ending() -> Iterator[Ending]:
    with handlers_kept():
        ending = Ending()
        ending.grace = 60.0
        ending.listen()
        yield ending


@pytest.mark.parametrize(("number", "code"), [(INT, 130), (TERM, 143), (HUP, 129)])
def test_a_signal_ends_a_command_with_the_code_of_a_shell(
    ending: Ending, number: signal.Signals, code: int
) -> None:
    with pytest.raises(Ended) as caught, ending.listening("go on like this"):
        signal.raise_signal(number)
    assert caught.value.exit_code == code
    how = "interrupted" if number == INT else f"ended by {number.name}"
    assert str(caught.value) == f"{how}; go on like this"


def test_a_command_that_comes_to_its_end_is_left_alone(ending: Ending) -> None:
    with ending.listening("go on"), ending.graceful():
        assert not ending.asked
    assert ending.leave(0) == 0


@pytest.mark.parametrize("number", [TERM, HUP])
def test_a_graceful_block_ends_by_itself_and_nothing_comes_after_it(
    ending: Ending, number: signal.Signals
) -> None:
    reached = []

    @ending.listening("go on")
    def command() -> None:
        with ending.graceful():
            with ending.graceful():
                signal.raise_signal(number)
                assert ending.asked
                assert not ending.overdue
            # SLURM may send it several times.
            signal.raise_signal(number)
            reached.append("the end of the block")
        reached.append("what comes next")

    with pytest.raises(Ended) as caught:
        command()
    assert reached == ["the end of the block"]
    assert caught.value.exit_code == 128 + number


def test_ctrl_c_waits_for_nothing(ending: Ending) -> None:
    reached = []

    def command() -> None:
        with ending.listening("go on"), ending.graceful():
            signal.raise_signal(TERM)
            signal.raise_signal(INT)
            reached.append("more")

    with pytest.raises(Ended) as caught:
        command()
    assert not reached
    # It was asked to end before.
    assert caught.value.exit_code == 143


def test_the_grace_ends(ending: Ending) -> None:
    ending.grace = 0.0

    def command() -> None:
        with ending.graceful():
            signal.raise_signal(TERM)
            time.sleep(0.01)
            assert ending.overdue

    with pytest.raises(KeyboardInterrupt):
        command()


def test_nohup_is_meant(ending: Ending) -> None:
    signal.signal(HUP, signal.SIG_IGN)
    with ending.listening("go on"):
        signal.raise_signal(HUP)
        assert not ending.asked


def test_the_next_command_of_a_process_was_asked_nothing(ending: Ending) -> None:
    @ending.listening("go on")
    def command(number: signal.Signals) -> None:
        with ending.graceful():
            assert not ending.asked
            signal.raise_signal(number)

    for number in (TERM, HUP):
        with pytest.raises(Ended, match=number.name):
            command(number)


def test_a_lost_cluster_interrupts_the_main_thread(ending: Ending) -> None:

    def command() -> None:
        ending.lose("the head is gone")
        time.sleep(10)

    with pytest.raises(KeyboardInterrupt):
        command()
    assert ending.lost == "the head is gone"
