"""What comes over a connection, until a deadline."""

from __future__ import annotations

import io
import math
import socket
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class TimelyStream(io.RawIOBase):
    """The bytes that `connection` receives before `end`, a moment of `time.monotonic`.

    A socket's own time-out limits silence only: a peer that sends a byte every few seconds could
    take any time.

    Raises:
        TimeoutError: at `end`, and before that after the time-out of `connection` in silence.
    """

    def __init__(self, connection: socket.socket, end: float = math.inf) -> None:
        self.end = end
        self._connection = connection
        # It keeps the socket open for as long as it is read.
        self._raw = connection.makefile("rb", buffering=0)

    def readable(self) -> bool:
        """It can be read."""
        return True

    def readinto(self, buffer: WriteableBuffer) -> int | None:
        """Wait for some bytes; 0 when no more will come."""
        left = self.end - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        silence = self._connection.gettimeout()
        self._connection.settimeout(left if silence is None else min(silence, left))
        try:
            return self._raw.readinto(buffer)
        finally:
            self._connection.settimeout(silence)

    def close(self) -> None:
        """Let go of the connection."""
        self._raw.close()
        super().close()
