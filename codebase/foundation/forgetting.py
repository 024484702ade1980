"""Rows that are no part of the log, and are of no use when they are old, are removed.

What is kept for how long is listed in docs/operations.md, table by table; a test compares that list
with the tables that there are.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg
from prometheus_client import Counter
from psycopg import Connection

from codebase.foundation.postgres import connect, trouble
from codebase.foundation.sql_watch import SqlWatch

logger = logging.getLogger(__name__)

FORGOTTEN = Counter(
    "orderly_forgotten_rows",
    "Rows that were older than their table keeps them, and were removed.",
    ["table"],
)
BATCH_ROWS = 1000
"""Removed at once, so that nobody waits long for what is locked meanwhile."""
ROUND_SECONDS = 3600.0
RETRY_SECONDS = 60.0

# One process at a time: two would do no harm, but wait for each other. Until the connection ends.
LEAD = "SELECT pg_try_advisory_lock(hashtext('forgetting ' || %(table)s))"


@dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """How long the rows of a table are kept.

    Args:
        table: its name.
        days: the age from which they are removed.
        remove: deletes at most %(rows)s of those that are older than %(days)s days.
    """

    table: str
    days: int
    remove: LiteralString


class Forgetting:
    """One thread's work: once an hour, what is too old goes.

    Args:
        url: of the store, for a role that may delete.
        application: shown in pg_stat_activity.
        kept: what is removed.
        stop: ends the work.
    """

    def __init__(
        self, url: str, application: str, kept: Sequence[Kept], stop: threading.Event
    ) -> None:
        self._url = url
        self._application = application
        self._kept = kept
        self._stop = stop
        self._watch = SqlWatch(RETRY_SECONDS, stop)

    def run(self, _stop: threading.Event) -> None:
        """Work until stopped, whatever happens to the store."""
        while not self._stop.is_set():
            self._stop.wait(ROUND_SECONDS if self._round() else RETRY_SECONDS)

    def _round(self) -> bool:
        """Whether the store could be asked."""
        try:
            with connect(self._url, self._application) as store:
                watched = self._watch.over(store)
                for kept in self._kept:
                    self._forget(watched, kept)
        except psycopg.Error as error:
            logger.warning("nothing is forgotten for a minute: %s", trouble(error))
            return False
        return True

    def _forget(self, store: Connection[Any], kept: Kept) -> None:
        if store.execute(LEAD, {"table": kept.table}).fetchone() != (True,):
            return
        forgotten = sum(self._batches(store, kept))
        if forgotten:
            logger.info("forgot %s rows of %s, %s days old", forgotten, kept.table, kept.days)

    def _batches(self, store: Connection[Any], kept: Kept) -> Iterator[int]:
        """How many rows each batch removed, as it is removed."""
        removed = BATCH_ROWS
        while removed == BATCH_ROWS and not self._stop.is_set():
            values = {"days": kept.days, "rows": BATCH_ROWS}
            removed = store.execute(kept.remove, values).rowcount
            FORGOTTEN.labels(kept.table).inc(removed)
            yield removed
