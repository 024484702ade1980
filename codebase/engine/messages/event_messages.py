"""Events as the broker gets them."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from psycopg import Cursor

# The body is made here, in one pass over text that Postgres has at hand: the same in Python would
# cost more than everything else the relay does. See docs/asyncapi.json for its shape.
READ_MESSAGES = """
    SELECT position,
           meta ->> 'topic',
           meta ->> 'event_id',
           type,
           floor(extract(epoch FROM recorded_at))::bigint,
           stream_id::text,
           version,
           category,
           meta ->> 'traceparent',
           concat(
               '{"event_id":', to_json(meta ->> 'event_id'),
               ',"type":', to_json(type),
               ',"category":', to_json(category),
               ',"stream_id":"', stream_id,
               '","version":', version,
               ',"partition":', partition,
               ',"position":', position,
               ',"recorded_at":"',
               to_char(recorded_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
               '","data":', data,
               ',"meta":', meta,
               '}'
           )
    FROM event
    WHERE partition = %(partition)s AND position > %(after)s
    ORDER BY position
    LIMIT %(limit)s
"""


class Message(NamedTuple):
    """One event, ready to be published; the order is that of READ_MESSAGES."""

    position: int
    topic: str
    event_id: str
    type: str
    timestamp: int
    stream_id: str
    version: int
    category: str
    traceparent: str | None
    body: str

    def announcement(self, partition: int) -> bytes:
        """What projectors are told: the log goes as far as this event, which tells the log by it.

        These are fields of the body. Projectors of earlier releases read nothing else of it.
        """
        place = {
            "event_id": self.event_id,
            "stream_id": self.stream_id,
            "partition": partition,
            "position": self.position,
        }
        return json.dumps(place).encode()


def read_messages(cursor: Cursor[Any], partition: int, *, after: int, limit: int) -> list[Message]:
    """At most `limit` events of a partition from position `after` + 1 on, in order."""
    chunk = {"partition": partition, "after": after, "limit": limit}
    rows = cursor.execute(READ_MESSAGES, chunk, prepare=True).fetchall()
    return [Message._make(row) for row in rows]
