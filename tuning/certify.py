"""Certificates without a search: decrop certify, or python -m tuning.certify."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, ValidationError

from trainables.command import CommandLine, Flag, UsageError, importing, problem, run_command
from tuning import __version__
from tuning.cluster.ending import ENDING
from tuning.config import GROUPS, check_values
from tuning.errors import ConfigError, WrongCertificates

# The fields of a run's configuration that certificates depend on, and where they are computed.
FIELDS = {
    *("dataset", "data_dir", "download", "classifier", "weights", "mean", "std", "seed"),
    "class_order",
    *GROUPS["images"].model_fields,
    *GROUPS["certificate"].model_fields,
    *GROUPS["cluster"].model_fields,
}


class CertifyFlags(BaseModel):
    """What is certified, and where the certificates go."""

    source: Annotated[Path | None, Flag("[RUN|EXPORT]", positional=True)] = Field(
        None, description="a finished run, or an exported smoothed_classifier"
    )
    verify: bool = Field(
        False, description="recompute the certificates of a run from their counts; change nothing"
    )
    denoiser: Path | None = Field(
        None, description="a denoiser file or export, instead of a run's denoisers"
    )
    sigma: float | None = Field(
        None, description="standard deviation of the noise; an export knows its own"
    )
    out: Annotated[Path | None, Flag("DIR", default="certified, in the run")] = Field(
        None,
        description="where the certificates go; the same command continues an interrupted one",
    )
    quiet: bool = Field(
        False, description="print only warnings and the result, not what is going on"
    )
    detach: bool = Field(False, description="submit the job, print its id, and return")


@ENDING.listening("the same command continues from here")
def certify(arguments: Sequence[str] | None) -> None:
    """Carry out one command line.

    Raises:
        UserError: with the message and the exit code for the user.
    """
    passed = certify_line().read(arguments)
    given = {name: value for name, value in passed.items() if name in FIELDS}
    try:
        own = CertifyFlags.model_validate({k: v for k, v in passed.items() if k not in given})
    except ValidationError as error:
        raise UsageError(problem(error)) from error
    if own.verify:
        if others := [name for name in passed if name not in ("source", "verify")]:
            flag = "--" + others[0].replace("_", "-")
            raise UsageError(f"{flag}: does not go with --verify, which takes only the run")
        _verify(own.source)
        return
    # Before the import of PyTorch, which takes seconds.
    check_values(given)
    with importing():
        from tuning.run.certify_again import certify_again

    certify_again(
        own.source,
        denoiser=own.denoiser,
        sigma=own.sigma,
        out=own.out,
        flags=given,
        quiet=own.quiet,
        detach=own.detach,
    )


def certify_line() -> CommandLine:
    """The command line of `decrop certify`."""
    line = CommandLine(
        "decrop certify",
        "Certify a run's models again, or any denoiser and classifier, without a search. Flags "
        "that are not passed have the values of the run.",
        __version__,
    )
    line.add_fields("what to certify", CertifyFlags)
    for title, model in GROUPS.items():
        line.add_fields(title, model, FIELDS)
    return line


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; one line on standard error if it fails."""
    return ENDING.leave(run_command(certify, arguments))


def _verify(source: Path | None) -> None:
    from results.store import StoreError
    from results.verification import verify
    from tuning.certification.replay import replay

    if source is None:
        raise ConfigError("--verify: name the run")
    try:
        count, wrong = verify(source, replay)
    except StoreError as error:
        raise ConfigError(str(error)) from error
    for line in wrong:
        print(line)
    if wrong:
        differences = "a difference" if len(wrong) == 1 else f"{len(wrong)} differences"
        found = f"{differences} in {count} certificates of {source}"
        raise WrongCertificates(found if count else f"{source} cannot be verified")
    print(f"{count} certificates of {source} follow from their counts")


if __name__ == "__main__":
    sys.exit(main())
