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


async def hold_claims(
    connection: AsyncConnection[Any], kinds: Sequence[str], seconds: float
) -> None:
    """Keep others from claiming anything of `kinds`, until they are vacated or time is up."""
    async with connection.cursor(binary=True) as cursor:
        await cursor.execute(HOLD_CLAIMS, {"kinds": list(kinds), "seconds": seconds}, prepare=True)
