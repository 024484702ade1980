"""Events as projections get them, read from the log."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from psycopg import Connection

from codebase.engine.log.check import check_head
from codebase.foundation.arrays import bigints, texts

# `data` stays the JSON text that it is in the log: Postgres takes it apart where the rows are
# made, which costs a fraction of doing it here. Events that nobody asked for travel without it.
READ_EVENTS = """
    SELECT partition, position, stream_id, category, version, type, recorded_at,
           CASE WHEN %(categories)b::text[] IS NULL OR category = ANY (%(categories)b::text[])
                THEN data::text END,
           meta ->> 'event_id'
    FROM event
    WHERE partition = %(partition)s AND position > %(after)s AND position <= %(until)s
    ORDER BY position
    LIMIT %(limit)s
"""

# Where the log ends, and a piece of it. Rows of others are counted, so that a hole is noticed, and
# do not travel. Nothing lies beyond the head: `limit` bounds both ways into the log, whatever the
# plan. A small number comes as a small integer, and the sum of two might be none.
READ_WANTED = """
    WITH piece AS MATERIALIZED (
        SELECT position AS head, least(position, %(after)s::bigint + %(limit)s) AS last
        FROM log_head WHERE partition = %(partition)s
    )
    SELECT event.partition, event.position, event.stream_id, event.category, event.version,
           event.type, event.recorded_at,
           CASE WHEN is_wanted THEN data::text END,
           meta ->> 'event_id',
           head,
           (SELECT count(*) FROM event
            WHERE partition = %(partition)s AND position > %(after)s
              AND position <= %(after)s::bigint + %(limit)s)
    FROM piece
    LEFT JOIN LATERAL (
        SELECT * FROM event
        CROSS JOIN LATERAL (
            SELECT category = ANY (%(categories)b::text[]) AND type <> ALL (%(passed_over)b::text[])
        ) AS asked (is_wanted)
        WHERE partition = %(partition)s AND position > %(after)s
          AND position <= %(after)s::bigint + %(limit)s
          AND (is_wanted OR position = ANY (%(also)b::bigint[]) OR position = last)
    ) AS event ON true
    ORDER BY event.position
"""

BY_POSITION = "-c enable_seqscan=off -c enable_bitmapscan=off"
"""Options of whoever reads what is wanted again and again: a plan that was made when the log was
small would go through all of it."""

READ_EVENTS_AT = """
    SELECT partition, position, stream_id, category, version, type, recorded_at, data::text,
           meta ->> 'event_id'
    FROM event
    WHERE partition = %(partition)s AND position = ANY (%(positions)b::bigint[])
    ORDER BY position
"""


class LoggedEvent(NamedTuple):
    """One event as projections get it.

    `data` is the JSON text of the event, in the shape that the model's event class defines, or
    None when the event was not asked for.
    """

    partition: int
    position: int
    stream_id: UUID
    category: str
    version: int
    type: str
    recorded_at: datetime
    data: str | None
    event_id: str | None


class LogGapError(Exception):
    """The log lacks a position. It never should; nothing may be projected past it."""


def read_events(
    connection: Connection[Any],
    partition: int,
    *,
    after: int,
    limit: int,
    until: int = 2**63 - 1,
    categories: Iterable[str] | None = None,
) -> list[LoggedEvent]:
    """The next events of a partition, at most `limit` and none past `until`.

    Args:
        connection: to the write model, reading only.
        partition: of the log.
        after: the position before the first one wanted.
        limit: number of events.
        until: the last position wanted.
        categories: whose `data` is needed; None means all.

    Raises:
        LogGapError: a position is missing.
    """
    with connection.cursor(binary=True) as cursor:
        cursor.execute(
            READ_EVENTS,
            {
                "partition": partition,
                "after": after,
                "until": until,
                "limit": limit,
                "categories": None if categories is None else sorted(categories),
            },
            prepare=True,
        )
        events = [LoggedEvent._make(row) for row in cursor.fetchall()]
    if events and events[-1].position - after != len(events):
        raise LogGapError(f"partition {partition} lacks a position above {after}")
    return events


def read_wanted(
    connection: Connection[Any],
    partition: int,
    *,
    after: int,
    limit: int,
    categories: Iterable[str],
    passed_over: Iterable[str] = (),
    also: Iterable[int] = (),
) -> tuple[int, list[LoggedEvent]]:
    """Where a partition ends, and of its next piece the events of some categories, and the last.

    Args:
        connection: to the write model, reading only, with the options `BY_POSITION`.
        partition: of the log.
        after: the position before the first one.
        limit: how many events the piece has at most.
        categories: whose events are wanted.
        passed_over: types of events that are not.
        also: positions whose events are wanted whatever they are of; without `data`.

    Raises:
        LogMismatchError: the log ends before `after`.
        LogGapError: a position is missing.
    """
    wanted = {
        "partition": partition,
        "after": after,
        "limit": limit,
        "categories": texts(sorted(categories)),
        "passed_over": texts(sorted(passed_over)),
        "also": bigints(list(also)),
    }
    with connection.cursor(binary=True) as cursor:
        rows = cursor.execute(READ_WANTED, wanted, prepare=True).fetchall()
    head, count = rows[-1][-2:] if rows else (0, 0)
    check_head(partition, head, after)
    if head == after:
        return head, []
    last = min(head, after + limit)
    if rows[-1][1] != last or count != last - after:
        raise LogGapError(f"partition {partition} lacks a position above {after}")
    return head, [LoggedEvent._make(row[:-2]) for row in rows]


def read_at(
    connection: Connection[Any], partition: int, positions: Sequence[int]
) -> list[LoggedEvent]:
    """The events at the given positions of a partition, in log order.

    Raises:
        LogGapError: a position is missing.
    """
    parameters = {"partition": partition, "positions": list(positions)}
    with connection.cursor(binary=True) as cursor:
        rows = cursor.execute(READ_EVENTS_AT, parameters).fetchall()
    if len(rows) != len(positions):
        raise LogGapError(f"partition {partition} lacks a position that was parked")
    return [LoggedEvent._make(row) for row in rows]
