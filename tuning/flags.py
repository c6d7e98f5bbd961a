"""Flags that several command lines have, and what a user really passed."""

from __future__ import annotations

from typing import Annotated, Any

import typer

DataDir = Annotated[str | None, typer.Option(metavar="DIR", help="where the data lies")]
Download = Annotated[bool, typer.Option("--download", help="fetch the data set if it is not there")]
CertifyImages = Annotated[int, typer.Option(help="test images to certify")]
Votes = Annotated[int, typer.Option("--n", help="votes that bound the probability")]
SelectionVotes = Annotated[int, typer.Option("--n0", help="votes that pick the class")]
Alpha = Annotated[float, typer.Option(help="chance that one certificate is wrong")]
ProcedureFlag = Annotated[
    str,
    typer.Option(
        metavar="fixed|tolerance|adaptive",
        help="n votes each; as many as a tolerance allows; or as many as decide --radii",
        show_default="tolerance; adaptive with --radii",
    ),
]
ToleranceFlag = Annotated[
    float, typer.Option(help="what a radius may lose against that of --n votes")
]
Radii = Annotated[
    str | None, typer.Option(metavar="R[,R]", help="radii to decide, and nothing else")
]
NoiseFlag = Annotated[
    str,
    typer.Option(
        metavar="gaussian|quantised",
        help="of certificates; quantised: on the grid of the pixels, proof against rounding",
    ),
]
PrecisionFlag = Annotated[
    str,
    typer.Option(
        metavar="auto|float32|bfloat16", help="in which votes are counted: the faster one"
    ),
]
CpusPerTrial = Annotated[int, typer.Option(help="cores of one worker")]
GpusPerTrial = Annotated[
    float | None, typer.Option(help="GPUs of one worker", show_default="1 where there are any")
]
Detach = Annotated[bool, typer.Option("--detach", help="submit the job, print its id, and return")]
Storage = Annotated[
    str | None,
    typer.Option(
        metavar="DIR|s3://BUCKET/DIR",
        help="what all hosts of a cluster reach: checkpoints, and a copy of the run to resume from",
        show_default="the run folder",
    ),
]
Concurrency = Annotated[int | None, typer.Option(help="workers at once", show_default="every core")]

Autoscaling = Annotated[
    bool,
    typer.Option(
        "--autoscaling", help="the cluster adds hosts: ask it for all --concurrency workers"
    ),
]


def passed(context: typer.Context) -> dict[str, Any]:
    """The flags that are not defaults, by field name."""
    return {
        name.rstrip("_"): value
        for name, value in context.params.items()
        if (source := context.get_parameter_source(name)) is not None
        and source.name == "COMMANDLINE"
    }
