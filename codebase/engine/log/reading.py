"""Reading the log: by stream, and by position."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection, Connection
from psycopg.rows import class_row

from codebase.engine.log.events import RecordedEvent
from codebase.foundation.arrays import integers, uuids

READ_LOG = """
    SELECT partition, position, stream_id, category, version, type, idempotence_key, data, meta,
           recorded_at
    FROM event
    WHERE partition = %(partition)s AND position > %(after)s AND position <= %(until)s
    ORDER BY position
    LIMIT %(limit)s
"""

# A subquery for each stream: it is always planned as a walk along the index from its version on.
READ_STREAMS = """
    SELECT page.*
    FROM unnest(%(streams)b::uuid[], %(since)b::integer[]) AS wanted (stream_id, since)
    CROSS JOIN LATERAL (
        SELECT partition, position, stream_id, category, version, type, idempotence_key, data, meta,
               recorded_at
        FROM event
        WHERE event.stream_id = wanted.stream_id AND event.version >= wanted.since
        ORDER BY event.version
        LIMIT %(limit)b
    ) AS page
    ORDER BY page.stream_id, page.version
"""

READ_HEADS = "SELECT partition, position FROM log_head ORDER BY partition"

END_OF_LOG = 2**63 - 1


async def read_streams(
    connection: AsyncConnection[Any], since: Mapping[UUID, int], limit: int
) -> dict[UUID, list[RecordedEvent]]:
    """A page of each of some streams, in version order.

    Args:
        connection: to the write model.
        since: stream -> the version to begin with.
        limit: how many events of each stream at most.
    """
    found: dict[UUID, list[RecordedEvent]] = {stream: [] for stream in since}
    wanted = {
        "streams": uuids(list(since)),
        "since": integers(list(since.values())),
        "limit": limit,
    }
    async with connection.cursor(row_factory=class_row(RecordedEvent), binary=True) as cursor:
        await cursor.execute(READ_STREAMS, wanted, prepare=True)
        # All at once: otherwise each of them is a step of an asynchronous loop.
        for row in await cursor.fetchall():
            found[row.stream_id].append(row)
    return found


def read_log(
    connection: Connection[Any],
    partition: int,
    *,
    after: int,
    limit: int,
    until: int = END_OF_LOG,
) -> list[RecordedEvent]:
    """At most `limit` events of a partition at positions `after` + 1 to `until`, in order."""
    with connection.cursor(row_factory=class_row(RecordedEvent), binary=True) as cursor:
        cursor.execute(
            READ_LOG,
            {"partition": partition, "after": after, "until": until, "limit": limit},
            prepare=True,
        )
        return cursor.fetchall()


def read_heads(connection: Connection[Any]) -> dict[int, int]:
    """The last position of every partition."""
    return dict(connection.execute(READ_HEADS, prepare=True).fetchall())
