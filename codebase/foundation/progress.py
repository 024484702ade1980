"""How far a reader of the log has come, in figures for operators.

A reader that waits cannot measure, and it is when it waits that an operator wants to know. So what
is kept is since when it is behind; how long that is is computed when somebody asks.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from prometheus_client import Gauge
from psycopg import Connection

HEAD = Gauge(
    "orderly_log_head_position",
    "The last position of the log, as a reader of it last saw it.",
    ["partition"],
)

# The server's clock on both sides: that of this machine may be another.
READ_AGE_SECONDS = """
    SELECT extract(epoch FROM clock_timestamp() - recorded_at)::float8
    FROM event
    WHERE partition = %(partition)s AND position = %(position)s
"""

AGE_INTERVAL_SECONDS = 1.0
"""How often the log is asked for the age of the first event that is waiting."""


class ProgressGauges:
    """What is told of each reader of one kind; the metrics' names begin with `name`."""

    def __init__(self, name: str, labels: Sequence[str]) -> None:
        self.position = Gauge(f"{name}_position", "The checkpoint in the log.", labels)
        self.lag_events = Gauge(
            f"{name}_lag_events", "Events in the log after the checkpoint.", labels
        )
        self.lag_seconds = Gauge(
            f"{name}_lag_seconds", "Age of the first event after the checkpoint.", labels
        )
        self.checked = Gauge(
            f"{name}_checked_timestamp_seconds",
            "When the checkpoint was last compared with the log, in seconds since 1970.",
            labels,
        )
        self.leads = Gauge(
            f"{name}_leads", "1: this process does the work; 0: it stands by, or waits.", labels
        )

    def figures(self) -> tuple[Gauge, ...]:
        """Those that only the process that does the work tells of."""
        return self.position, self.lag_events, self.lag_seconds, self.checked


class Progress:
    """How far one reader is in one partition.

    Args:
        gauges: of its kind.
        labels: which reader, in the order of the gauges' labels; the last one is the partition.
    """

    def __init__(self, gauges: ProgressGauges, *labels: object) -> None:
        self._gauges = gauges
        self._labels = tuple(map(str, labels))
        self._partition = int(self._labels[-1])
        self._head = 0
        self._behind_since: float | None = None
        self._ask_at = 0.0
        self._is_shown = False
        gauges.leads.labels(*labels).set(0)

    def stand_by(self) -> None:
        """Somebody else does the work, and tells of it; what was known here is out of date."""
        self._gauges.leads.labels(*self._labels).set(0)
        if self._is_shown:
            for gauge in self._gauges.figures():
                gauge.remove(*self._labels)
            self._is_shown = False

    def lead(self) -> None:
        """From now on this process does the work."""
        self._gauges.leads.labels(*self._labels).set(1)

    def pause(self) -> None:
        """Something keeps the work from being done; what is behind goes on to age."""
        self._gauges.leads.labels(*self._labels).set(0)

    def measure(self, log: Connection[Any], head: int, reached: int) -> None:
        """Compare a checkpoint with the log.

        Args:
            log: a connection to the write model.
            head: the last position of the partition.
            reached: the checkpoint.
        """
        now = time.monotonic()
        self._head = head
        if head <= reached:
            self._behind_since = None
        elif now >= self._ask_at:
            self._ask_at = now + AGE_INTERVAL_SECONDS
            age_seconds = self._age_seconds(log, reached + 1)
            # However long the answer took, nobody is told of more than there is.
            self._behind_since = time.monotonic() - age_seconds
        elif self._behind_since is None:
            self._behind_since = now
        self._show(reached)
        HEAD.labels(self._partition).set(head)
        self._gauges.checked.labels(*self._labels).set_to_current_time()

    def arrive(self, position: int) -> None:
        """The checkpoint has moved."""
        if position >= self._head:
            self._behind_since = None
        self._show(position)

    def _show(self, reached: int) -> None:
        self._gauges.position.labels(*self._labels).set(reached)
        self._gauges.lag_events.labels(*self._labels).set(max(0, self._head - reached))
        if not self._is_shown:
            self._is_shown = True
            self._gauges.lag_seconds.labels(*self._labels).set_function(self._seconds_behind)

    def _age_seconds(self, log: Connection[Any], position: int) -> float:
        key = {"partition": self._partition, "position": position}
        row = log.execute(READ_AGE_SECONDS, key, prepare=True).fetchone()
        return max(0.0, row[0]) if row else 0.0

    def _seconds_behind(self) -> float:
        since = self._behind_since
        return 0.0 if since is None else time.monotonic() - since
