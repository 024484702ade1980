"""The log, a range of streams at a time, so that no snapshot outlives a range.

A snapshot that is held for minutes keeps Postgres from clearing away the versions of rows that are
updated all the time, above all the log's heads: appends become several times as slow.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Any
from uuid import UUID

from psycopg import Connection, IsolationLevel
from psycopg.rows import class_row

from codebase.engine.log.events import RecordedEvent
from codebase.foundation.postgres import connect

OPTIONS = "-c statement_timeout=0"
FETCH = 2_000
"""Rows per round trip of a cursor that streams."""
EVENTS_PER_RANGE = 5_000
"""About so many; whole streams, however long. That is half a second or so."""

FIRST, LAST = UUID(int=0), UUID(int=2**128 - 1)

FIND_END_OF_RANGE = """
    SELECT stream_id FROM event
    WHERE stream_id >= %(first)s
    ORDER BY stream_id, version, partition
    OFFSET %(events)s LIMIT 1
"""

# The order of UNIQUE (stream_id, version, partition): an index gives it without a sort.
READ_STREAMS_IN_ORDER = """
    SELECT partition, position, stream_id, category, version, type, idempotence_key, data, meta,
           recorded_at
    FROM event
    WHERE stream_id BETWEEN %(first)s AND %(last)s
    ORDER BY stream_id, version, partition
"""


@dataclass(frozen=True, slots=True)
class Range:
    """Streams from the id `first` to the id `last`, both included."""

    first: UUID
    last: UUID

    @property
    def parameters(self) -> dict[str, UUID]:
        """For the statements that read it."""
        return {"first": self.first, "last": self.last}


@contextmanager
def open_store(url: str) -> Iterator[Connection[Any]]:
    """A connection whose every transaction is a snapshot, and changes nothing."""
    with connect(url, "verify", options=OPTIONS) as connection:
        connection.isolation_level = IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        yield connection


def read_ranges(log: Connection[Any]) -> Iterator[Range]:
    """Ranges that cover every id there can be, in order, of about so many events each."""
    first = FIRST
    while True:
        row = log.execute(
            FIND_END_OF_RANGE, {"first": first, "events": EVENTS_PER_RANGE}
        ).fetchone()
        last: UUID = LAST if row is None else row[0]
        yield Range(first, last)
        if last == LAST:
            return
        first = UUID(int=last.int + 1)


def read_streams(
    log: Connection[Any], within: Range
) -> Iterator[tuple[UUID, Sequence[RecordedEvent]]]:
    """The streams of a range with all their events, in the order of their ids."""
    with log.cursor("streams", row_factory=class_row(RecordedEvent)) as cursor:
        cursor.itersize = FETCH
        cursor.execute(READ_STREAMS_IN_ORDER, within.parameters)
        yield from group_by_stream(cursor)


def group_by_stream(
    events: Iterable[RecordedEvent],
) -> Iterator[tuple[UUID, Sequence[RecordedEvent]]]:
    """The streams of events that are in their order."""
    for stream_id, of_stream in groupby(events, key=attrgetter("stream_id")):
        yield stream_id, list(of_stream)
