"""Finding commands again by their keys: in the log, and in the notes beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import class_row

from codebase.foundation.arrays import texts, uuids

# Subqueries with a LIMIT and not joins: a connection keeps the plan that it made while the log was
# empty, and a join may be planned as a hash of the whole table. There is one event at most, since a
# key is one client's in its stream. The first event of a stream has no entry in that index.
READ_KEYS = """
    SELECT wanted.stream_id, sent.client, wanted.idempotence_key, sent.version, sent.noted
    FROM unnest(%(stream)b::uuid[], %(client)b::text[], %(key)b::text[])
        AS wanted (stream_id, client, idempotence_key)
    CROSS JOIN LATERAL (
        (
            SELECT wanted.client, event.version, NULL AS noted
            FROM event
            WHERE event.stream_id = wanted.stream_id
              AND event.idempotence_key = wanted.idempotence_key
              AND coalesce(event.meta ->> 'actor', '') = wanted.client
              AND event.version > 1
            LIMIT 1
        )
        UNION ALL
        (
            SELECT note.client, note.version, note.fingerprint
            FROM command_note AS note
            WHERE note.stream_id = wanted.stream_id
              AND note.idempotence_key = wanted.idempotence_key
              AND note.client IN (wanted.client, '')
            LIMIT 2
        )
    ) AS sent
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class SentBefore:
    """A command that was sent before.

    Args:
        stream_id: where it was sent to.
        client: whose it was; see `UNKNOWN_CLIENT`.
        idempotence_key: its key.
        version: of its first event; of the stream if it had nothing to do.
        noted: its fingerprint if it had nothing to do, otherwise None.
    """

    stream_id: UUID
    client: str
    idempotence_key: str
    version: int
    noted: str | None


async def read_keys(
    connection: AsyncConnection[Any], keys: Sequence[tuple[UUID, str, str]]
) -> list[SentBefore]:
    """What was sent before with these keys, other than to create a stream.

    Args:
        connection: to the write model.
        keys: stream, client and idempotence key of the commands asked about.
    """
    wanted = {
        "stream": uuids([stream for stream, _, _ in keys]),
        "client": texts([client for _, client, _ in keys]),
        "key": texts([key for _, _, key in keys]),
    }
    async with connection.cursor(row_factory=class_row(SentBefore), binary=True) as cursor:
        await cursor.execute(READ_KEYS, wanted, prepare=True)
        return await cursor.fetchall()
