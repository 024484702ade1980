"""Setting aside what cannot be applied: one stream waits, everything else flows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from psycopg import Connection, Cursor

from codebase.engine.projections.logged_events import LoggedEvent

# To be looked for stream by stream, by its key: joined as tables are, Postgres might go through all
# that is parked. So it might in search of a first row, unless that is the first in an order.
IS_PARKED = """
    SELECT FROM parked_stream
    WHERE projector = %(projector)s::text AND stream_id >= {stream} AND stream_id <= {stream}
    ORDER BY stream_id
    LIMIT 1
"""
READ_PARKED_STREAMS = f"""
    SELECT asked.stream_id FROM unnest(%(stream_ids)s::uuid[]) AS asked (stream_id)
    CROSS JOIN LATERAL ({IS_PARKED.format(stream="asked.stream_id")}) AS parked
"""  # noqa: S608 - of names that stand here

# Parked again while it is parked: the first reason is the one that matters.
PARK_STREAM = """
    INSERT INTO parked_stream (projector, stream_id, partition, category, reason)
    VALUES (%(projector)s, %(stream_id)s, %(partition)s, %(category)s, %(reason)s)
    ON CONFLICT DO NOTHING
"""

PARK_EVENTS = """
    INSERT INTO parked_event (projector, partition, position, stream_id, version, type)
    SELECT %(projector)s, %(partition)s, event.position, event.stream_id, event.version, event.type
    FROM unnest(%(position)b::bigint[], %(stream_id)b::uuid[], %(version)b::integer[],
                %(type)b::text[]) AS event (position, stream_id, version, type)
"""

COUNT_EVENTS = """
    SELECT count(*) FROM parked_event
    WHERE projector = %(projector)s AND partition = %(partition)s
"""


def parked_streams(cursor: Cursor[Any], projector: str, events: Iterable[LoggedEvent]) -> set[UUID]:
    """Which of the events' streams are parked; the caller holds the checkpoint's lock."""
    stream_ids = list({event.stream_id for event in events})
    # Planned anew: a plan from when few were parked would go through all of them.
    cursor.execute(
        READ_PARKED_STREAMS, {"projector": projector, "stream_ids": stream_ids}, prepare=False
    )
    return {row[0] for row in cursor.fetchall()}


def park_stream(cursor: Cursor[Any], projector: str, event: LoggedEvent, reason: str) -> None:
    """Park the event's stream from this event on; the caller holds the checkpoint's lock."""
    parameters = {
        "projector": projector,
        "stream_id": event.stream_id,
        "partition": event.partition,
        "category": event.category,
        "reason": reason,
    }
    cursor.execute(PARK_STREAM, parameters)
    park_events(cursor, projector, event.partition, [event])


def park_events(
    cursor: Cursor[Any], projector: str, partition: int, events: Sequence[LoggedEvent]
) -> None:
    """Remember events of streams that are parked already."""
    parameters = {
        "projector": projector,
        "partition": partition,
        "position": [event.position for event in events],
        "stream_id": [event.stream_id for event in events],
        "version": [event.version for event in events],
        "type": [event.type for event in events],
    }
    cursor.execute(PARK_EVENTS, parameters)


def count_events(store: Connection[Any], projector: str, partition: int) -> int:
    """How many events of a partition wait in parked streams."""
    row = store.execute(COUNT_EVENTS, {"projector": projector, "partition": partition}).fetchone()
    return int(row[0]) if row else 0


class Sorted(NamedTuple):
    """Events by what is to be done with them, each in log order."""

    to_apply: list[LoggedEvent]
    unknown: list[LoggedEvent]
    of_parked_streams: list[LoggedEvent]


def sort(
    events: Iterable[LoggedEvent], parked: set[UUID], is_unknown: Callable[[LoggedEvent], bool]
) -> Sorted:
    """Tell apart what can be applied and what cannot.

    Args:
        events: in log order.
        parked: the streams that are parked; not changed.
        is_unknown: whether nobody can apply an event, so that its stream is to be parked.
    """
    found = Sorted([], [], [])
    waiting = set(parked)
    for event in events:
        if event.stream_id in waiting:
            found.of_parked_streams.append(event)
        elif is_unknown(event):
            waiting.add(event.stream_id)
            found.unknown.append(event)
        else:
            found.to_apply.append(event)
    return found
