"""Whether everything that a run folder claims is there, and follows from what is recorded in it."""

from results.verification.verify import verify

__all__ = ["verify"]
