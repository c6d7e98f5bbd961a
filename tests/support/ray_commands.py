"""Ray's own commands, as its command line reads them."""

from collections.abc import Sequence

import click
from ray.scripts.scripts import cli


def check_ray_command(words: Sequence[str]) -> None:
    """Raise what Ray would say to the words that follow `ray`; the bare name of a command is fine.

    Raises:
        AssertionError: for an unknown command.
        click.UsageError: for options that it does not take.
    """
    command: click.Command = cli
    given = list(words)
    while isinstance(command, click.Group):
        found = command.get_command(click.Context(command), given[0])
        assert found is not None, given[0]
        command, given = found, given[1:]
    if given:
        command.make_context(command.name, given)
