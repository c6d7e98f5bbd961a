"""Numbers as readers see them."""

import pytest

from results.report.formats import number, signed


@pytest.mark.parametrize(
    ("value", "plain", "with_sign"),
    [
        (0.25, "0.250", "+0.250"),
        (-0.25, "\N{MINUS SIGN}0.250", "\N{MINUS SIGN}0.250"),
        # What is rounded to zero has no minus.
        (-0.0004, "0.000", "+0.000"),
    ],
)
def test_numbers_have_three_digits_and_zero_no_minus(
    value: float, plain: str, with_sign: str
) -> None:
    assert (number(value), signed(value)) == (plain, with_sign)
