"""Budgets: what may be spent in total, from a share per partition."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from psycopg import AsyncConnection

MOVE_BUDGET = "SELECT move_budget(%(name)b, %(partition)b::smallint, %(wanted)b)"


async def move_budget(
    connection: AsyncConnection[Any], name: str, partition: int, wanted: Decimal
) -> None:
    """Bring a partition's share of a budget to `wanted`, or to all that the others have left."""
    async with connection.cursor(binary=True) as cursor:
        arguments = {"name": name, "partition": partition, "wanted": wanted}
        await cursor.execute(MOVE_BUDGET, arguments, prepare=True)
