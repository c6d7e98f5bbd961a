"""The command line of a search: decrop launch, or python -m tuning.launch."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from trainables.command import importing, run_command
from tuning.cluster.ending import ENDING
from tuning.config import RunConfig, check_values, make_config, read_yaml
from tuning.errors import ConfigError
from tuning.flags import LaunchFlags, launch_line


@ENDING.listening("--resume continues from here")
def launch(arguments: Sequence[str] | None) -> None:
    """Carry out one command line.

    Raises:
        UserError: with the message and the exit code for the user.
    """
    passed = launch_line().read(arguments)
    given = {name: value for name, value in passed.items() if name in RunConfig.model_fields}
    own = LaunchFlags.model_validate({k: v for k, v in passed.items() if k not in given})
    if own.attach is not None:
        _attach(given.get("cluster"), own.attach)
        return
    _check({**(read_yaml(own.config) if own.config else {}), **given}, own.resume)
    with importing():
        from tuning.run.start import start

    start(
        given,
        config_file=own.config,
        resume=own.resume,
        dry_run=own.dry_run,
        as_json=own.as_json,
        quiet=own.quiet,
        detach=own.detach,
    )


def _check(given: dict[str, object], resume: bool) -> None:
    """Refuse a bad configuration before the import of PyTorch, which takes seconds."""
    if resume:
        # The rest of the configuration is stored in the run.
        check_values(given)
    else:
        make_config({"name": "unnamed", **given})


def _attach(cluster: str | None, job: str) -> None:
    from tuning.cluster.address import dashboard_address
    from tuning.cluster.jobs import attach

    address = dashboard_address(cluster)
    if address is None:
        raise ConfigError("--attach: needs the address of a dashboard, --cluster http://HOST:8265")
    attach(address, job)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; one line on standard error if it fails."""
    return ENDING.leave(run_command(launch, arguments))


if __name__ == "__main__":
    sys.exit(main())
