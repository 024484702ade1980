"""How much there is to be done, in figures for operators."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from prometheus_client import Counter, Gauge
from psycopg import Connection
from psycopg.errors import QueryCanceled

from codebase.foundation.observability import logs
from codebase.foundation.observability.figures import not_summed

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

# Each process counts all that there is, and one breaker that is open is worth a look.
for _gauge in (WAITING, PARKED, OLDEST, BREAKER, REMINDERS, REMINDERS_PARKED, REMINDERS_LATE):
    for _family in _gauge.describe():
        not_summed(_family.name, max)

COUNT_INTERVAL_SECONDS = 10.0
REST_FACTOR = 20
"""Counting goes through all that waits, which may be a million reminders, and nothing is done
meanwhile: so it takes a twentieth of the time at most."""

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
    SELECT count(*) FILTER (WHERE reason IS NULL), count(*) FILTER (WHERE reason IS NOT NULL)
    FROM reminder
    WHERE reaction = %(reaction)s
"""

# By the index, however many there are.
FIND_FIRST_REMINDER = """
    SELECT extract(epoch FROM clock_timestamp() - due_at)::float8
    FROM reminder
    WHERE reaction = %(reaction)s AND reason IS NULL
    ORDER BY due_at
    LIMIT 1
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
        self._unopened = frozenset[str]()

    def what_is_unopened(self) -> str | None:
        """Whether something waited for a target that is none, when it was counted; any thread."""
        if not self._unopened:
            return None
        return f"something waits for targets that are not opened here: {sorted(self._unopened)}"

    def show(self, store: Connection[Any]) -> None:
        """Count, if it is time for that; what takes the server too long stays as it was."""
        began = self._clock()
        if began < self._count_at:
            return
        try:
            self._show_lateness(store)
            self._show_open(store)
            self._show_reminders(store)
        except QueryCanceled:
            logs.warning("reaction_figures_are_old", reaction=self._reaction)
        took = self._clock() - began
        self._count_at = self._clock() + max(COUNT_INTERVAL_SECONDS, REST_FACTOR * took)

    def _show_open(self, store: Connection[Any]) -> None:
        key = {"reaction": self._reaction}
        found = {row[0]: row[1:] for row in store.execute(COUNT_OPEN, key).fetchall()}
        for target in self._targets | found.keys():
            waiting, parked, oldest = found.get(target, (0, 0, None))
            WAITING.labels(self._reaction, target).set(waiting)
            PARKED.labels(self._reaction, target).set(parked)
            OLDEST.labels(self._reaction, target).set(max(0.0, oldest or 0.0))
        self._unopened = frozenset(found.keys() - self._targets)

    def _show_reminders(self, store: Connection[Any]) -> None:
        row = store.execute(COUNT_REMINDERS, {"reaction": self._reaction}).fetchone()
        waiting, parked = row or (0, 0)
        REMINDERS.labels(self._reaction).set(waiting)
        REMINDERS_PARKED.labels(self._reaction).set(parked)

    def _show_lateness(self, store: Connection[Any]) -> None:
        row = store.execute(FIND_FIRST_REMINDER, {"reaction": self._reaction}).fetchone()
        REMINDERS_LATE.labels(self._reaction).set(max(0.0, row[0] if row else 0.0))
