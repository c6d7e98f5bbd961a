"""What the commands of this package share: one line on standard error if they fail."""

import argparse
import sys
from typing import NoReturn


class CommandLine(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and end with exit code 2."""
        self.exit(fail(f"{message} (see --help)"))


def fail(message: str) -> int:
    """Say why a command fails; returns its exit code."""
    print("error:", one_line(message), file=sys.stderr)
    return 2


def one_line(text: str) -> str:
    """`text`, which may quote anything, with escapes in place of what a terminal must not get."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in " ".join(text.split()))
