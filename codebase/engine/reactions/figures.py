"""How much there is to be done, in figures for operators."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from prometheus_client import Counter, Gauge
from psycopg import Connection

LABELS = ["reaction", "target"]
WAITING = Gauge("orderly_reaction_waiting", "What is to be done and is not parked.", LABELS)
PARKED = Gauge("orderly_reaction_parked", "What could not be done and waits for a retry.", LABELS)
OLDEST = Gauge("orderly_reaction_oldest_seconds", "Age of the oldest that is to be done.", LABELS)
BREAKER = Gauge("orderly_reaction_breaker_open", "1: the target is left alone.", LABELS)
ATTEMPTS = Counter("orderly_reaction_attempts", "Attempts, by how they ended.", [*LABELS, "ended"])
REMINDERS = Gauge("orderly_reaction_reminders", "Reminders that have not fired.", ["reaction"])
REMINDERS_PARKED = Gauge(
    "orderly_reaction_reminders_parked", "Reminders that could not fire.", ["reaction"]
)
REMINDERS_LATE = Gauge(
    "orderly_reaction_reminders_late_seconds", "How long the first has been due.", ["reaction"]
)

COUNT_INTERVAL_SECONDS = 10.0
"""Counting goes through all that waits, which may be a million reminders."""

COUNT_OPEN = """
    SELECT target, count(*) FILTER (WHERE state = 'waiting'),
           count(*) FILTER (WHERE state = 'parked'),
           extract(epoch FROM clock_timestamp()
               - min(created_at) FILTER (WHERE state = 'waiting'))::float8
    FROM intent
    WHERE reaction = %(reaction)s AND ended_at IS NULL
    GROUP BY target
"""

COUNT_REMINDERS = """
    SELECT count(*) FILTER (WHERE reason IS NULL), count(*) FILTER (WHERE reason IS NOT NULL),
           extract(epoch FROM clock_timestamp()
               - min(due_at) FILTER (WHERE reason IS NULL))::float8
    FROM reminder
    WHERE reaction = %(reaction)s
"""


class ReactionFigures:
    """What is told of one reaction.

    Args:
        reaction: its name.
        targets: the names of those that are told of while nothing waits for them, too.
        clock: seconds that only ever grow.
    """

    def __init__(
        self, reaction: str, targets: Iterable[str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._reaction = reaction
        self._targets = set(targets)
        self._clock = clock
        self._count_at = clock()

    def show(self, store: Connection[Any]) -> None:
        """Count, if it is time for that."""
        if self._clock() < self._count_at:
            return
        self._count_at = self._clock() + COUNT_INTERVAL_SECONDS
        key = {"reaction": self._reaction}
        found = {row[0]: row[1:] for row in store.execute(COUNT_OPEN, key).fetchall()}
        for target in self._targets | found.keys():
            waiting, parked, oldest = found.get(target, (0, 0, None))
            WAITING.labels(self._reaction, target).set(waiting)
            PARKED.labels(self._reaction, target).set(parked)
            OLDEST.labels(self._reaction, target).set(max(0.0, oldest or 0.0))
        self._show_reminders(store)

    def _show_reminders(self, store: Connection[Any]) -> None:
        row = store.execute(COUNT_REMINDERS, {"reaction": self._reaction}).fetchone()
        waiting, parked, late = row or (0, 0, None)
        REMINDERS.labels(self._reaction).set(waiting)
        REMINDERS_PARKED.labels(self._reaction).set(parked)
        REMINDERS_LATE.labels(self._reaction).set(max(0.0, late or 0.0))
