"""The console script decrop; a command's module is imported only when it is called."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from trainables.command import CommandLine, UsageError, run_command
from trainables.errors import nearest
from tuning import __version__

# Each module has a function `main`, as for `python -m`.
COMMANDS = {
    "launch": ("tuning.launch", "search for a denoiser, and certify it with its classifier"),
    "certify": ("tuning.certify", "certify a run, an export or any denoiser, without a search"),
    "report": ("results.report", "build the report of a run at any moment, or compare runs"),
    "track": ("results.tracking.command", "give a run to MLflow or Weights & Biases"),
    "pretrain": ("trainables.pretraining.command", "train a base classifier"),
    "export": ("trainables.smoothing.portable", "write an export's network as .pt2 or .onnx"),
    "serve": ("trainables.black_box.serve", "serve an export, or a classifier to black-box access"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that comes first, and return its exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    if given and given[0] in COMMANDS:
        module, _ = COMMANDS[given[0]]
        code: int = import_module(module).main(given[1:])
        return code
    return run_command(_without_command, given)


def _without_command(arguments: Sequence[str] | None) -> None:
    line = CommandLine("decrop", "Certified robustness from a few images.", __version__)
    line.usage = "decrop COMMAND ..."
    line.formatter_class = argparse.RawDescriptionHelpFormatter
    line.epilog = "\n".join(
        ["commands:", *(f"  {name:<10}{does}" for name, (_, does) in COMMANDS.items())]
    )
    if arguments and not arguments[0].startswith("-"):
        raise UsageError(f"{arguments[0]}: unknown command{nearest(arguments[0], COMMANDS)}")
    line.read(arguments)
    line.print_help()


if __name__ == "__main__":
    sys.exit(main())
