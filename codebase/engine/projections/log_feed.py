"""The feed without a broker: the log itself, looked at again and again."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from codebase.engine.projections.feed import Delivery
from codebase.foundation.backoff import Rests


class LogFeed:
    """No broker: the log is polled, quickly while there is work and slowly when idle.

    Args:
        stop: ends a rest.
        idle_poll_seconds: the longest rest.
    """

    def __init__(self, stop: threading.Event, idle_poll_seconds: float) -> None:
        self._stop = stop
        self._rests = Rests(idle_poll_seconds)

    def open(self) -> None:
        """There is nothing to listen to."""

    def take(self, *, found: bool) -> Sequence[Delivery]:
        """Rest, then say: look at the log."""
        rest = self._rests.after(found=found)
        if rest:
            self._stop.wait(rest)
        return ()

    def settle(self, taken: Sequence[Delivery], rejected: Sequence[tuple[Delivery, str]]) -> None:
        """Nothing was taken, so nothing is owed."""

    def wake(self) -> None:
        """The stop event ends the rest."""
