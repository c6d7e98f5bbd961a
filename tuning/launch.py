"""The command line: python -m tuning.launch."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from trainables.command import run_command
from tuning import flags

# Flags of this command line that are not part of a run's configuration.
OWN = ("config", "resume", "dry_run", "json", "detach", "attach")
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def launch(
    context: typer.Context,
    dataset: Annotated[
        str,
        typer.Option(
            metavar="NAME[,NAME]",
            help="digits, mnist, fashion_mnist, cifar10, cifar100, svhn, folder",
        ),
    ] = "digits",
    data_dir: flags.DataDir = None,
    download: flags.Download = False,
    shots: Annotated[
        str, typer.Option(metavar="N|P%[,...]", help="labelled images per class")
    ] = "10",
    classifier: Annotated[
        str | None,
        typer.Option(
            metavar="SPEC",
            help='frozen classifier: a checkpoint {"arch", "state_dict"}, package.module:factory, '
            "torchvision:NAME, a torch.export FILE.pt2, or an http:// endpoint",
        ),
    ] = None,
    weights: Annotated[
        str | None, typer.Option(metavar="FILE", help="state dict of a factory or torchvision")
    ] = None,
    mean: Annotated[
        str | None,
        typer.Option(metavar="X[,X,X]", help="the classifier's normalisation, by channel"),
    ] = None,
    std: Annotated[str | None, typer.Option(metavar="X[,X,X]", help="as --mean")] = None,
    feature_layer: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="layer whose output are the features",
            show_default="the input of the last linear layer",
        ),
    ] = None,
    access: Annotated[
        str,
        typer.Option(
            metavar="white-box|black-box", help="whether the classifier's gradients may be used"
        ),
    ] = "white-box",
    query_budget: Annotated[
        int, typer.Option(help="black box: images the classifier may be asked about for training")
    ] = 20_000,
    init_denoiser: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="start every trial from this trained denoiser"),
    ] = None,
    space: Annotated[
        str | None, typer.Option(metavar="NAME|FILE.yaml", help="search space")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="fix a hyperparameter; repeatable"),
    ] = None,
    objective: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="acr, certified-accuracy@R, or pareto: clean accuracy and ACR"
        ),
    ] = "acr",
    min_accuracy: Annotated[
        float | None,
        typer.Option(help="pareto: the clean accuracy, in [0, 1], that `best` must have"),
    ] = None,
    trials: Annotated[int, typer.Option(help="points the search evaluates")] = 16,
    sampler: Annotated[
        str, typer.Option(metavar="tpe|gp|random|cmaes", help="what proposes trials")
    ] = "tpe",
    scheduler: Annotated[
        str,
        typer.Option(
            metavar="asha|hyperband|none",
            help="what ends bad trials early",
            show_default="asha; none for pareto",
        ),
    ] = "asha",
    transfer: Annotated[
        int, typer.Option(help="best points that a shot setting takes over from the one before it")
    ] = 3,
    budget: Annotated[
        str | None,
        typer.Option(metavar="DURATION", help="for search and confirmation: 90s, 30m, 2h"),
    ] = None,
    device_hours: Annotated[
        float | None,
        typer.Option(help="as --budget, in hours of GPUs, or of cores where there are none"),
    ] = None,
    trial_timeout: Annotated[
        str,
        typer.Option(metavar="DURATION", help="a worker that says nothing for so long is ended"),
    ] = "6h",
    ledger: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="a PostgreSQL database for the study; the password goes in PGPASSWORD",
            show_default="study.db in the run folder",
        ),
    ] = None,
    cohort: Annotated[
        int | None,
        typer.Option(help="trials proposed together", show_default="4, or the number of workers"),
    ] = None,
    tuning_votes: Annotated[int, typer.Option(help="votes per tuning image in a trial")] = 400,
    confirm_votes: Annotated[int, typer.Option(help="votes per tuning image to confirm")] = 2000,
    confirm_top: Annotated[
        int | None,
        typer.Option(help="trials that are confirmed", show_default="one in eight, 2 to 8"),
    ] = None,
    confirm_folds: Annotated[
        int, typer.Option(help="fresh splits on which each of them is trained again")
    ] = 3,
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
        str | None,
        typer.Option(
            metavar="[ADDRESS]",
            help="a Ray cluster: HOST:PORT of one that this host belongs to, or http://HOST:8265 "
            "to submit the run as a job",
            show_default="RAY_ADDRESS when no address is given",
        ),
    ] = None,
    detach: flags.Detach = False,
    attach: Annotated[
        str | None, typer.Option(metavar="ID", help="follow a job that was submitted before")
    ] = None,
    cpus_per_trial: flags.CpusPerTrial = 1,
    gpus_per_trial: flags.GpusPerTrial = None,
    concurrency: flags.Concurrency = None,
    autoscaling: flags.Autoscaling = False,
    storage: flags.Storage = None,
    out: Annotated[str, typer.Option(metavar="DIR", help="where run folders lie")] = "runs",
    name: Annotated[
        str | None, typer.Option(help="name of the run folder", show_default="the date")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="continue the run --name, or the latest one")
    ] = False,
    seed: Annotated[int, typer.Option(help="everything random comes from it")] = 0,
    config: Annotated[
        str | None, typer.Option(metavar="FILE.yaml", help="any of these; flags win")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="show what would run, at what cost; start nothing")
    ] = False,
    json_: Annotated[
        bool, typer.Option("--json", help="end with the summary as one line of JSON")
    ] = False,
) -> None:
    """Search for a denoiser that makes a frozen classifier certifiably robust, and certify it."""
    if attach is not None:
        _attach(cluster, attach)
        return
    from tuning.run.start import start

    start(
        {k: v for k, v in flags.passed(context).items() if k not in OWN},
        config_file=None if config is None else Path(config),
        resume=resume,
        dry_run=dry_run,
        as_json=json_,
        detach=detach,
    )


def _attach(cluster: str | None, job: str) -> None:
    from tuning.cluster.address import dashboard_address
    from tuning.cluster.jobs import attach
    from tuning.errors import ConfigError

    address = dashboard_address(cluster)
    if address is None:
        raise ConfigError("--attach: needs the address of a dashboard, --cluster http://HOST:8265")
    attach(address, job)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; one line on standard error if it fails."""
    given = sys.argv[1:] if arguments is None else arguments
    return run_command(app, _with_cluster_value(given), "--resume goes on from here")


def _with_cluster_value(arguments: Sequence[str]) -> list[str]:
    """Give a bare --cluster the value that stands for RAY_ADDRESS."""
    completed: list[str] = []
    for position, argument in enumerate(arguments):
        completed.append(argument)
        following = arguments[position + 1 : position + 2]
        if argument == "--cluster" and (not following or following[0].startswith("-")):
            completed.append("auto")
    return completed


if __name__ == "__main__":
    sys.exit(main())
