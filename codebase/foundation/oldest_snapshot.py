"""How old the oldest snapshot of a store is: whoever holds one makes everybody slower with time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from prometheus_client import Gauge
from psycopg import Connection

SECONDS = Gauge(
    "orderly_oldest_snapshot_seconds",
    "Age of the oldest transaction of a store that keeps old versions of rows.",
    ["store", "projector", "partition"],
)

# NULL when the store's owner may not see others' transactions.
READ_SECONDS = "SELECT oldest_snapshot_seconds()"


class OldestSnapshot:
    """The figure of one store, as one worker measures it.

    Args:
        store: `write_model` or `read_model`.
        worker: the projector and partition that measure.
        interval_seconds: the store is asked once in this time at most; each time it looks through
            all of its connections, which would be most of what an idle worker costs.
        clock: seconds that only ever grow.
    """

    def __init__(
        self,
        store: str,
        worker: Sequence[object],
        interval_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._labels = (store, *map(str, worker))
        self._interval_seconds = interval_seconds
        self._clock = clock
        self._ask_at = clock()
        self._is_shown = False

    def measure(self, connection: Connection[Any]) -> None:
        """Ask the store, and tell what it says; nothing when it may not know, or was just asked."""
        now = self._clock()
        if now < self._ask_at:
            return
        self._ask_at = now + self._interval_seconds
        row = connection.execute(READ_SECONDS, prepare=True).fetchone()
        if row is not None and row[0] is not None:
            SECONDS.labels(*self._labels).set(row[0])
            self._is_shown = True

    def forget(self) -> None:
        """Nobody measures any more, or somebody else does; who comes back asks at once."""
        self._ask_at = self._clock()
        if self._is_shown:
            SECONDS.remove(*self._labels)
            self._is_shown = False
