"""The command line: python -m tuning.certify, for certificates without a search."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from trainables.command import run_command
from tuning import flags
from tuning.errors import WrongCertificates

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def certify(
    context: typer.Context,
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="[RUN|EXPORT]",
            help="a finished run, or an exported smoothed_classifier",
            show_default=False,
        ),
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="recompute the certificates of a run; change nothing")
    ] = False,
    denoiser: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="a denoiser file or export, instead of a run's"),
    ] = None,
    sigma: Annotated[float | None, typer.Option(help="noise; an export knows its own")] = None,
    classifier: Annotated[
        str | None, typer.Option(metavar="SPEC", help="as in tuning.launch")
    ] = None,
    weights: Annotated[str | None, typer.Option(metavar="FILE", help="as in tuning.launch")] = None,
    mean: Annotated[str | None, typer.Option(metavar="X[,X,X]", help="as in tuning.launch")] = None,
    std: Annotated[str | None, typer.Option(metavar="X[,X,X]", help="as in tuning.launch")] = None,
    dataset: Annotated[str, typer.Option(metavar="NAME", help="as in tuning.launch")] = "digits",
    data_dir: flags.DataDir = None,
    download: flags.Download = False,
    certify_images: flags.CertifyImages = 200,
    n: flags.Votes = 10_000,
    n0: flags.SelectionVotes = 100,
    alpha: flags.Alpha = 0.001,
    procedure: flags.ProcedureFlag = "tolerance",
    tolerance: flags.ToleranceFlag = 0.02,
    radii: flags.Radii = None,
    noise: flags.NoiseFlag = "gaussian",
    precision: flags.PrecisionFlag = "auto",
    cluster: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="a Ray cluster; auto for RAY_ADDRESS")
    ] = None,
    cpus_per_trial: flags.CpusPerTrial = 1,
    gpus_per_trial: flags.GpusPerTrial = None,
    concurrency: flags.Concurrency = None,
    autoscaling: flags.Autoscaling = False,
    storage: flags.Storage = None,
    detach: flags.Detach = False,
    seed: Annotated[int, typer.Option(help="of the noise", show_default="0, or the run's own")] = 0,
    out: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="where the certificates go; the same command goes on with what is there",
            show_default="certified, in the run",
        ),
    ] = None,
) -> None:
    """Certify a run's models again, or any denoiser and classifier, without a search."""
    own = ("source", "verify", "denoiser", "sigma", "out", "detach")
    given = {k: v for k, v in flags.passed(context).items() if k not in own}
    if verify:
        _verify(source)
        return
    from tuning.run.certify_again import certify_again

    certify_again(
        None if source is None else Path(source),
        denoiser=None if denoiser is None else Path(denoiser),
        sigma=sigma,
        out=None if out is None else Path(out),
        flags=given,
        detach=detach,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; one line on standard error if it fails."""
    return run_command(app, arguments, "the same command goes on from here")


def _verify(source: str | None) -> None:
    from results.store import StoreError
    from results.verification import verify
    from tuning.errors import ConfigError

    if source is None:
        raise ConfigError("--verify: name the run")
    try:
        count, wrong = verify(Path(source))
    except StoreError as error:
        raise ConfigError(str(error)) from error
    for line in wrong:
        print(line)
    if wrong:
        raise WrongCertificates(f"{len(wrong)} differences in {count} certificates of {source}")
    print(f"{count} certificates of {source} follow from their counts")


if __name__ == "__main__":
    sys.exit(main())
