"""Failures of the environment, which stop a run although its configuration is right."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

import ray
import ray.tune

from trainables.command import with_flags
from trainables.errors import InputError
from tuning.cluster.ending import ENDING
from tuning.errors import CertificationIncomplete, RunError
from tuning.study.database import StudyError

# A full disk, a lost cluster, a damaged ledger, an endpoint that no longer answers.
ENVIRONMENT_ERRORS = (
    InputError,
    OSError,
    sqlite3.Error,
    StudyError,
    ray.exceptions.RayError,
    ray.tune.TuneError,
)


def stopped(reason: str, go_on: str) -> RunError:
    """What to tell the user when `reason`, or a signal, ends a run that `go_on` continues."""
    if ENDING.asked or not reason:
        return ENDING.error(f"continue with {go_on}")
    return CertificationIncomplete(
        f"the run stopped: {reason}; fix that, then continue with {go_on}"
    )


@contextmanager
def stopping(go_on: str) -> Iterator[None]:
    """Report in one line what stops the block; `go_on` is the command that continues the run.

    Raises:
        CertificationIncomplete: when a disk, a cluster, a database or an endpoint failed.
        Ended: when a signal ended it.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise stopped(ENDING.lost, go_on) from None
    except ENVIRONMENT_ERRORS as error:
        cause = error.cause if isinstance(error, ray.exceptions.RayTaskError) else error
        reason = (with_flags(cause).strip() or type(cause).__name__).splitlines()[-1]
        # A cluster that is asked to end at the same time may be faster.
        raise stopped(ENDING.lost or reason, go_on) from error
