"""The command line, killed from within: python -m tests.support.killed WHERE COUNT ARGUMENTS.

The process sends itself SIGKILL when it has passed the moment WHERE for the COUNT-th time, as the
kernel does when memory runs out, or a person who pulls the plug.
"""

import importlib
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from tuning.launch import main
from tuning.run import start

# The function whose call is each moment, and whether the process dies before or after it.
SEARCH: dict[str, tuple[str, bool]] = {
    "before ask": ("tuning.study.database:DurableStudy.start", False),
    "after ask": ("tuning.study.database:DurableStudy.start", True),
    "before tell": ("tuning.study.database:DurableStudy.tell", False),
    "after tell": ("tuning.study.database:DurableStudy.tell", True),
    "after report": ("tuning.study.database:DurableStudy.report", True),
    # Tune writes the trial's checkpoint at this time.
    "while a checkpoint is written": ("tuning.search.tune:LedgerScheduler.on_trial_result", True),
    "after the run is copied": ("tuning.cluster.mirror:Mirror.push", True),
}
# In the order in which a run comes to them.
AFTER_SEARCH: dict[str, tuple[str, bool]] = {
    "before a denoiser is written": ("tuning.confirmation.training:write_bytes", False),
    "after votes": ("tuning.votes.store:VoteStore.put", True),
    "before confirmation is written": ("tuning.confirmation.confirm:write_confirmation", False),
    "before the variants are written": ("tuning.run.after_search:write_denoisers", False),
    "before the export": ("tuning.run.after_search:export", False),
    "before the certificates are written": ("tuning.run.after_search:write_results", False),
    "before the summary is written": ("tuning.run.pipeline:write_summary", False),
    "before the report is written": ("results.report:write_report", False),
}
MOMENTS = SEARCH | AFTER_SEARCH


def kill_at(where: str, count: int) -> None:
    """Arrange for the death of this process."""
    path, after = MOMENTS[where]
    module, _, attributes = path.partition(":")
    owner: Any = importlib.import_module(module)
    *outer, name = attributes.split(".")
    for attribute in outer:
        owner = getattr(owner, attribute)
    original: Callable[..., Any] = getattr(owner, name)
    calls = 0

    def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == count and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*arguments, **options)
        if calls == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, counted)


def main_killed_at(where: str, count: int, arguments: list[str]) -> int:
    """Run the command line to its death, or to its end."""
    run = start._run

    def prepared(*given: Any) -> None:
        # Not before: Ray must not be imported until the cluster was asked.
        kill_at(where, count)
        run(*given)

    vars(start)["_run"] = prepared
    return main(arguments)


if __name__ == "__main__":
    sys.exit(main_killed_at(sys.argv[1], int(sys.argv[2]), sys.argv[3:]))
