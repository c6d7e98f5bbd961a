"""Errors that the user can mend."""


class InputError(ValueError):
    """Something the user passed cannot be used; the message is one line that says what to do."""


class NonFiniteLoss(ArithmeticError):
    """A loss term became NaN or infinite; the message names it."""
