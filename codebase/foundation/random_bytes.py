"""Random bytes for ids, of which many are needed, a few at a time.

Each read of the operating system's random numbers lets go of the interpreter: where other threads
wait for it, whoever makes ids on an event loop has to wait in turn, at every one of them.
"""

from __future__ import annotations

import os
import threading

READ_TOGETHER = 4_096
"""Bytes."""


class _Pool(threading.local):
    """What this thread has read and not used yet."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin anew, with what nobody else has."""
        self._read = b""
        self._used = 0

    def take(self, count: int) -> bytes:
        """So many bytes, which nobody gets again."""
        end = self._used + count
        if end > len(self._read):
            self._read, self._used, end = os.urandom(max(count, READ_TOGETHER)), 0, count
        taken = self._read[self._used : end]
        self._used = end
        return taken


_POOL = _Pool()
# A process that is forked must not use what the other one uses as well.
os.register_at_fork(after_in_child=_POOL.forget)


def random_bytes(count: int) -> bytes:
    """So many random bytes as the operating system has them; not for keys, which are few."""
    return _POOL.take(count)
