"""`orderly parked`: see what was set aside, try it again, or decide to do without it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from psycopg import Connection, Cursor
from psycopg.rows import class_row

from codebase.engine.projections.blame import describe
from codebase.engine.projections.checkpoint import READ_MODEL_STORE, Store
from codebase.engine.projections.logged_events import LoggedEvent, read_at
from codebase.engine.projections.projection import Projector
from codebase.foundation.postgres import connect
from codebase.foundation.settings import Settings
from codebase.operations import OperationError

LIST_PARKED = """
    SELECT stream.projector, stream.stream_id, stream.category, stream.partition, stream.reason,
           stream.parked_at, min(event.position) AS first_position, count(event.position) AS events
    FROM parked_stream AS stream
    LEFT JOIN parked_event AS event USING (projector, stream_id)
    GROUP BY stream.projector, stream.stream_id
    ORDER BY stream.parked_at, stream.projector, stream.stream_id
"""

FIND_PROJECTORS = """
    SELECT projector FROM parked_stream WHERE stream_id = %(stream_id)s ORDER BY projector
"""

# In the order of the log, as far as streams of different partitions have one.
FIND_STREAMS = """
    SELECT stream.stream_id
    FROM parked_stream AS stream
    JOIN parked_event AS event USING (projector, stream_id)
    WHERE stream.projector = %(projector)s
    GROUP BY stream.stream_id, stream.partition
    ORDER BY stream.partition, min(event.position)
"""

FIND_STREAM = """
    SELECT partition FROM parked_stream
    WHERE projector = %(projector)s AND stream_id = %(stream_id)s
"""

# The projector moves this row first in each of its transactions, so it is held off until we are
# done: it cannot set aside another event of the stream behind our back.
LOCK_CHECKPOINT = """
    SELECT position FROM projection_checkpoint
    WHERE projector = %(projector)s AND partition = %(partition)s
    FOR UPDATE
"""

READ_PARKED = """
    SELECT position FROM parked_event
    WHERE projector = %(projector)s AND stream_id = %(stream_id)s
    ORDER BY position
"""

REMOVE_EVENTS = """
    DELETE FROM parked_event
    WHERE projector = %(projector)s AND partition = %(partition)s
      AND position = ANY (%(positions)s)
"""

REMOVE_STREAM = """
    DELETE FROM parked_stream
    WHERE projector = %(projector)s AND stream_id = %(stream_id)s AND NOT EXISTS (
        SELECT FROM parked_event
        WHERE projector = %(projector)s AND stream_id = %(stream_id)s
    )
"""

REMEMBER_DISCARDED = """
    INSERT INTO discarded_event
        (projector, partition, position, stream_id, version, type, reason)
    SELECT event.projector, event.partition, event.position, event.stream_id, event.version,
           event.type, stream.reason
    FROM parked_event AS event
    JOIN parked_stream AS stream USING (projector, stream_id)
    WHERE event.projector = %(projector)s AND event.partition = %(partition)s
      AND event.position = %(position)s
"""


# With their schema, because a rebuild looks for unqualified names elsewhere.
READ_ALL_PARKED = """
    SELECT partition, position FROM public.parked_event WHERE projector = %(projector)s
"""
READ_DISCARDED = """
    SELECT partition, position FROM public.discarded_event WHERE projector = %(projector)s
"""


class NotParkedError(OperationError):
    """The stream is not parked."""


class RetryFailedError(OperationError):
    """An event of the stream still cannot be applied; nothing changed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ParkedStream:
    """A stream that waits, with the reason why its first event could not be applied."""

    projector: str
    stream_id: UUID
    category: str
    partition: int
    reason: str
    parked_at: datetime
    first_position: int
    events: int

    def line(self) -> str:
        """All of it in a sentence."""
        return (
            f"{self.stream_id} {self.category}, parked by {self.projector}:"
            f" {self.events} events wait from position {self.partition}:{self.first_position},"
            f" since {self.parked_at}: {self.reason}"
        )

    def cells(self) -> dict[str, object]:
        """All of it as a row of a table: column -> text."""
        return {
            "stream": self.stream_id,
            "category": self.category,
            "parked by": self.projector,
            "events": self.events,
            "from": f"{self.partition}:{self.first_position}",
            "since": f"{self.parked_at:%Y-%m-%d %H:%M:%S%z}",
            "reason": self.reason,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Retried:
    """What became of everything that was parked.

    Args:
        streams: how many flow again.
        events: how many of them were applied.
        failures: of the others, with what still fails.
    """

    streams: int
    events: int
    failures: Mapping[UUID, str]


class Stores(NamedTuple):
    """Connections that retrying takes: rows are written as their owner, the log is read."""

    rows: Connection[Any]
    log: Connection[Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class LeftOut:
    """Events that are in the log and not in the rows, as (partition, position)."""

    parked: frozenset[tuple[int, int]]
    discarded: frozenset[tuple[int, int]]

    def __contains__(self, place: tuple[int, int]) -> bool:
        return place in self.parked or place in self.discarded

    def sentences(self) -> list[str]:
        """What an operator should know about it."""
        sentences = []
        if self.parked:
            sentences.append(f"{len(self.parked)} parked events are left out")
        if self.discarded:
            sentences.append(f"{len(self.discarded)} discarded events are left out")
        return sentences


def list_parked(settings: Settings, place: Store = READ_MODEL_STORE) -> list[ParkedStream]:
    """Every parked stream of every projector of a store, the longest parked first."""
    with (
        _open(settings, place) as store,
        store.cursor(row_factory=class_row(ParkedStream)) as cursor,
    ):
        return cursor.execute(LIST_PARKED).fetchall()


def parked_by(settings: Settings, stream_id: UUID, place: Store = READ_MODEL_STORE) -> list[str]:
    """The names of the projectors of a store that have parked a stream."""
    with _open(settings, place) as store:
        rows = store.execute(FIND_PROJECTORS, {"stream_id": stream_id}).fetchall()
    return [row[0] for row in rows]


def retry(settings: Settings, projector: Projector, stream_id: UUID) -> int:
    """Apply a stream's parked events in order and let the stream flow again.

    Returns:
        How many events were applied.

    Raises:
        NotParkedError: the stream is not parked.
        RetryFailedError: an event still fails; the text says which and how. Nothing changed.
    """
    with _stores(settings, projector.store) as stores:
        return _retry(stores, projector, stream_id)


def retry_all(settings: Settings, projector: Projector) -> Retried:
    """Retry every stream that a projector has parked, in the order of their first parked events.

    Each is a transaction of its own, so that the projector is held off for no longer than that, and
    one that still fails keeps nobody else.
    """
    with _stores(settings, projector.store) as stores:
        found = stores.rows.execute(FIND_STREAMS, {"projector": projector.name}).fetchall()
        applied, failures = 0, dict[UUID, str]()
        for (stream_id,) in found:
            try:
                applied += _retry(stores, projector, stream_id)
            except NotParkedError:
                continue  # somebody else was faster
            except RetryFailedError as error:
                failures[stream_id] = str(error)
    return Retried(streams=len(found) - len(failures), events=applied, failures=failures)


def discard(settings: Settings, projector: Projector, stream_id: UUID) -> int:
    """Do without the first parked event of a stream; the others stay parked until a retry.

    That is remembered, and rebuild and verify leave the event out too.

    Returns:
        The position of the event that was discarded.

    Raises:
        NotParkedError: the stream is not parked.
    """
    with (
        _open(settings, projector.store) as store,
        _parked_stream(store, projector, stream_id) as (cursor, partition, positions),
    ):
        key = {"projector": projector.name, "partition": partition, "position": positions[0]}
        cursor.execute(REMEMBER_DISCARDED, key)
        _remove(cursor, projector, stream_id, partition, positions[:1])
        return positions[0]


def _open(settings: Settings, place: Store) -> Connection[Any]:
    return connect(settings.required(place.owner_url), "parked", options=place.options)


@contextmanager
def _stores(settings: Settings, place: Store) -> Iterator[Stores]:
    log_url = settings.required("write_model_reader_url")
    with _open(settings, place) as rows, connect(log_url, "parked") as log:
        yield Stores(rows, log)


def _retry(stores: Stores, projector: Projector, stream_id: UUID) -> int:
    """What `retry` does, over connections that are there."""
    with _parked_stream(stores.rows, projector, stream_id) as (cursor, partition, positions):
        events = read_at(stores.log, partition, positions)
        for event in events:
            _apply(projector, cursor, event)
        _remove(cursor, projector, stream_id, partition, positions)
        return len(events)


@contextmanager
def _parked_stream(
    store: Connection[Any], projector: Projector, stream_id: UUID
) -> Iterator[tuple[Cursor[Any], int, list[int]]]:
    """(cursor in a transaction that holds the projector off, partition, parked positions)."""
    key = {"projector": projector.name, "stream_id": stream_id}
    with store.transaction(), store.cursor(binary=True) as cursor:
        found = cursor.execute(FIND_STREAM, key).fetchone()
        if found is None:
            raise NotParkedError(f"stream {stream_id} is not parked")
        cursor.execute(LOCK_CHECKPOINT, {**key, "partition": found[0]})
        positions = [row[0] for row in cursor.execute(READ_PARKED, key).fetchall()]
        if not positions:
            raise NotParkedError(f"stream {stream_id} is not parked any more")
        yield cursor, found[0], positions


def _apply(projector: Projector, cursor: Cursor[Any], event: LoggedEvent) -> None:
    try:
        projector.apply(cursor, [event])
    except Exception as error:
        # Broad on purpose: whatever a projection raises is the answer to "does it work now?".
        raise RetryFailedError(
            f"{event.type} at {event.partition}:{event.position}: {describe(error)}"
        ) from error


def _remove(
    cursor: Cursor[Any],
    projector: Projector,
    stream_id: UUID,
    partition: int,
    positions: list[int],
) -> None:
    key = {"projector": projector.name, "stream_id": stream_id, "partition": partition}
    cursor.execute(REMOVE_EVENTS, {**key, "positions": positions})
    cursor.execute(REMOVE_STREAM, key)


def left_out(store: Connection[Any], projector: str) -> LeftOut:
    """What the projector's rows do not contain, as the connection's transaction sees it."""
    key = {"projector": projector}
    parked = store.execute(READ_ALL_PARKED, key).fetchall()
    discarded = store.execute(READ_DISCARDED, key).fetchall()
    return LeftOut(parked=frozenset(parked), discarded=frozenset(discarded))
