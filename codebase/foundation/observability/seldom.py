"""Warnings of what others can make happen without end."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from codebase.foundation.observability import logs

WARNING_SECONDS = 60.0


class SeldomWarning:
    """Counts what happens, and says so once a minute at most.

    Args:
        event: of the log's records; `times` says how often it happened since the last one.
        now: a clock that only goes on.
    """

    def __init__(self, event: str, *, now: Callable[[], float] = monotonic) -> None:
        self._event = event
        self._now = now
        self._times = 0
        self._warned_at: float | None = None

    def note(self, **details: str) -> None:
        """It happened; `details` are those of the time that is told."""
        now = self._now()
        self._times += 1
        if self._warned_at is None or now - self._warned_at >= WARNING_SECONDS:
            logs.warning(self._event, times=self._times, **details)
            self._warned_at, self._times = now, 0
