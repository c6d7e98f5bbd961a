import pytest

from trainables.data.shots import ShotCount


@pytest.mark.parametrize(
    ("text", "expected"), [("7", 7), ("100", 100), ("5%", 2), ("12.5%", 5), ("100%", 40), ("1%", 0)]
)
def test_a_percentage_is_rounded_and_a_number_is_not_limited(text: str, expected: int) -> None:
    assert ShotCount(text).count(40) == expected


@pytest.mark.parametrize(
    "text", ["", "0", "00", "ten", "-3", "1.5", "5 %", "%", "1e1", "10\n", "101%", "110%", "1" * 10]
)
def test_what_is_neither_a_number_nor_a_percentage_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is neither a number above 0 nor a percentage as in 5%$"):
        ShotCount(text)


def test_it_is_written_as_the_user_wrote_it() -> None:
    shots = ShotCount("5.0%")
    assert (str(shots), repr(shots)) == ("5.0%", "'5.0%'")
    assert shots != ShotCount("5%")
