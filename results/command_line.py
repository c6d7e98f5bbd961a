"""What the commands of this package share: one line on standard error if they fail."""

import argparse
from typing import NoReturn


class CommandLine(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and end with exit code 2."""
        self.exit(2, f"error: {message} (see --help)\n")
