"""The ways in which a run can fail, each with its exit code."""

from __future__ import annotations

from trainables.errors import UserError


class RunError(UserError):
    """A run that cannot continue."""


class WrongCertificates(RunError):
    """Certificates that do not follow from their counts."""

    exit_code = 1


class ConfigError(RunError):
    """Bad configuration or input; the message names the field and the remedy."""

    exit_code = 2


class AllTrialsFailed(RunError):
    """No trial gave a denoiser."""

    exit_code = 3


class Ended(RunError):
    """A run that a signal ended, with the exit code that shells give to that."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class JobEnded(Ended):
    """A submitted run that did not succeed, with its exit code."""


class CertificationIncomplete(RunError):
    """Some certificates are missing."""

    exit_code = 4
