"""Who holds which value that may be held once only, such as an e-mail address."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection

READ_HOLDERS = """
    SELECT kind, value, stream_id FROM claim
    WHERE kind = ANY (%(kinds)b::text[])
    ORDER BY kind, value
"""

READ_HOLDER = "SELECT stream_id FROM claim WHERE kind = %(kind)b AND value = %(value)b"

ARE_HELD = """
    SELECT count(*) >= %(count)s
    FROM (SELECT FROM claim WHERE kind = ANY (%(kinds)b::text[]) LIMIT %(count)s) AS held
"""

HOLD_CLAIMS = "SELECT hold_claims(%(kinds)b::text[], %(seconds)b)"


async def read_holders(
    connection: AsyncConnection[Any], kinds: Sequence[str]
) -> dict[str, list[tuple[str, UUID]]]:
    """Kind -> what is claimed of that kind, and the stream that holds it, for each of `kinds`."""
    found: dict[str, list[tuple[str, UUID]]] = {kind: [] for kind in kinds}
    async with connection.cursor(binary=True) as cursor:
        await cursor.execute(READ_HOLDERS, {"kinds": list(found)}, prepare=True)
        async for kind, value, stream_id in cursor:
            found[kind].append((value, stream_id))
    return found


async def read_holder(connection: AsyncConnection[Any], kind: str, value: str) -> UUID | None:
    """The stream that holds a value at the moment."""
    async with connection.cursor(binary=True) as cursor:
        await cursor.execute(READ_HOLDER, {"kind": kind, "value": value}, prepare=True)
        row = await cursor.fetchone()
    return row[0] if row else None


async def are_held(connection: AsyncConnection[Any], kinds: Sequence[str], count: int) -> bool:
    """Whether at least `count` values of `kinds` are claimed at the moment."""
    async with connection.cursor(binary=True) as cursor:
        await cursor.execute(ARE_HELD, {"kinds": list(kinds), "count": count}, prepare=True)
        row = await cursor.fetchone()
    return row is not None and bool(row[0])


async def hold_claims(
    connection: AsyncConnection[Any], kinds: Sequence[str], seconds: float
) -> None:
    """Keep others from claiming anything of `kinds`, until they are vacated or time is up."""
    async with connection.cursor(binary=True) as cursor:
        await cursor.execute(HOLD_CLAIMS, {"kinds": list(kinds), "seconds": seconds}, prepare=True)
