"""The command line of a benchmark."""

import argparse


def parser(description: str | None) -> argparse.ArgumentParser:
    """Flags; `--help` shows the docstring of the benchmark as it is written."""
    return argparse.ArgumentParser(
        usage=argparse.SUPPRESS,
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
