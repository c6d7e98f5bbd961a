"""What surrounds the stages of a run: Ray, the mirror, the manifest, the summary and the report."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, NamedTuple

from results import files
from results.run import Run, load_run
from results.summary import write_summary
from results.terminal import summary_tables
from results.verdict import Verdict, judge_all
from tuning.cluster.connection import connect, token_place
from tuning.cluster.context import Context
from tuning.cluster.ending import ENDING
from tuning.cluster.hosts import lost_hosts
from tuning.cluster.watching import watched
from tuning.config import RunConfig
from tuning.config.command import python_command
from tuning.errors import RunError
from tuning.monitoring.progress import redirect_output
from tuning.run.failures import stopped, stopping
from tuning.run.folder import RunFolder
from tuning.run.manifest import Manifest, read_manifest
from tuning.run.outcome import write_outcome

Rows = list[dict[str, Any]]
Stages = Callable[[Context, Manifest], Iterator[Rows]]


class Result(NamedTuple):
    """The rows of the summary, and the verdicts by setting."""

    summary: Rows
    verdicts: dict[str, Verdict]


def carry_out(
    stages: Stages, config: RunConfig, folder: RunFolder, go_on: str, *, quiet: bool = False
) -> Result:
    """Run `stages` on Ray, write the summary that they yield to `folder`, and report on it.

    The folder must be locked. `stages` yields the summary rows of one setting after another;
    `go_on` is the command that continues a run that stops. A run that is `quiet` shows no progress.

    Raises:
        RunError: when the run cannot finish; finished work is kept.
    """
    ENDING.grace = config.grace
    previous = read_manifest(folder.manifest)
    rows: Rows = []
    with redirect_output(folder.ray_log, quiet) as reporter:
        reporter.say(f"run folder: {folder.path}")
        reporter.say("starting Ray ...")

        def give_up() -> RunError:
            error = stopped(ENDING.lost, go_on)
            reporter.say(f"error: {error}")
            return error

        with (
            stopping(go_on),
            connect(config) as cluster,
            watched(cluster, give_up),
            folder.mirrored(config, cluster),
        ):
            if cluster.dashboard:
                login = f" (log in with the token in {place})" if (place := token_place()) else ""
                reporter.say(f"Ray dashboard: http://{cluster.dashboard}{login}")
            manifest = Manifest(folder.manifest, config, cluster, previous)
            context = Context(config, cluster, reporter, manifest.run_id)
            lost_before = lost_hosts()
            with closing(context.pool):
                for setting_rows in stages(context, manifest):
                    rows += setting_rows
                    write_summary(folder.summary, rows, context.provenance)
            manifest.add_lost_hosts(
                reason for host, reason in lost_hosts().items() if host not in lost_before
            )
            reporter.say("writing the report ...")
            # Matplotlib, which delays the first trial.
            from results.model_card import write_model_card
            from results.report import write_report

            run = load_run(folder.path)
            verdicts = judge_all(run)
            write_report(run, verdicts)
            for setting in run.settings:
                if setting.name in verdicts:
                    write_model_card(run, setting, verdicts[setting.name])
            write_outcome(run, verdicts, config)
            manifest.seal(folder.path)
        reporter.out.print(summary_tables(rows, verdicts))
        for line in what_next(folder, run):
            reporter.out.print(line, markup=False, highlight=False, soft_wrap=True)
    return Result(rows, verdicts)


def what_next(folder: RunFolder, run: Run) -> list[str]:
    """Where the report is, and the commands that open it, use the result and check the run."""
    said = [f"report: {folder.report}"]
    said.append("open:   " + python_command("-m", "webbrowser", folder.report))
    for setting in run.settings:
        export = folder.path / setting.name / files.EXPORT
        if export.is_dir():
            said.append("use:    " + python_command("-m", "tuning", "serve", export))
    said.append("verify: " + python_command("-m", "tuning.certify", "--verify", folder.path))
    return said
