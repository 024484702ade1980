"""Notes beside the log: commands that had nothing to do, so that a late repeat does nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection

READ_NOTES = """
    SELECT note.stream_id, note.client, note.idempotence_key, note.fingerprint, note.version
    FROM unnest(%(stream)b::uuid[], %(client)b::text[], %(key)b::text[])
        AS wanted (stream_id, client, idempotence_key)
    JOIN command_note AS note USING (stream_id, idempotence_key)
    WHERE note.client IN (wanted.client, '')
"""

UNKNOWN_CLIENT = ""
"""Whose command a note is that was made before clients were noted: it may be anybody's."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Note:
    """A command that had nothing to do when its stream was at `version`: it stays without effect.

    Whoever repeats it, however late, gets the answer that it got then.
    """

    partition: int
    stream_id: UUID
    client: str
    idempotence_key: str
    fingerprint: str
    version: int


async def read_notes(
    connection: AsyncConnection[Any], keys: Sequence[tuple[UUID, str, str]]
) -> dict[UUID, dict[tuple[str, str], tuple[str, int]]]:
    """Stream -> client and key -> fingerprint and version, of commands that had nothing to do.

    Args:
        connection: to the write model.
        keys: stream, client and idempotence key of the commands asked about.
    """
    wanted = {
        "stream": [stream for stream, _, _ in keys],
        "client": [client for _, client, _ in keys],
        "key": [key for _, _, key in keys],
    }
    found: dict[UUID, dict[tuple[str, str], tuple[str, int]]] = {}
    async with connection.cursor(binary=True) as cursor:
        await cursor.execute(READ_NOTES, wanted, prepare=True)
        async for stream_id, client, key, fingerprint, version in cursor:
            found.setdefault(stream_id, {})[client, key] = fingerprint, version
    return found
