"""Writing creations that are alike, such as orders: the same as `append`, for less.

What is the same for all of them is sent once, and Postgres has nothing to sort and nothing to sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from psycopg import AsyncConnection

from codebase.engine.log.appending import MICROSECOND, Appended
from codebase.engine.log.events import NewEvent
from codebase.foundation.arrays import texts, uuids
from codebase.model.aggregate import Spend

APPEND_CREATIONS = """
    SELECT head_position, head_recorded_at
    FROM append_creations(
        %(partition)b::smallint, %(category)b, %(type)b,
        %(stream)b::uuid[], %(key)b::text[], %(data)b::text[], %(meta)b::text[],
        %(budget)b, %(amount)b
    )
"""


@dataclass(slots=True)
class Creations:
    """The first events of as many streams, in one partition, of one type.

    Args:
        events: in log order.
        budget: that all of them spend from; None if they spend nothing.
        amount: what they spend together.
    """

    events: Sequence[NewEvent]
    budget: str | None
    amount: Decimal


def alike(events: Sequence[NewEvent]) -> Creations | None:
    """The events as creations that are alike; None if they are anything else."""
    first = events[0]
    budget = _budget(first)
    amount, unit = Decimal(0), -1
    for event in events:
        if (
            event.version != 1
            or event.unit == unit
            or event.partition != first.partition
            or event.type != first.type
            or event.category != first.category
        ):
            return None
        unit = event.unit
        for guard in event.guards:
            if not isinstance(guard, Spend) or guard.name != budget:
                return None
            amount += guard.amount
    return Creations(events, budget, amount)


def _budget(event: NewEvent) -> str | None:
    guard = event.guards[0] if event.guards else None
    return guard.name if isinstance(guard, Spend) else None


async def append_creations(
    connection: AsyncConnection[Any], creations: Creations
) -> Appended | None:
    """Append all of them in one statement.

    Returns:
        None if one of the streams exists or the budget does not do: then nothing is written, and
        `append` tells what is wrong with which.
    """
    events, first = creations.events, creations.events[0]
    arguments = {
        "partition": first.partition,
        "category": first.category,
        "type": first.type,
        "stream": uuids([event.stream_id for event in events]),
        "key": texts([event.idempotence_key for event in events]),
        "data": texts([event.data for event in events]),
        "meta": texts([event.meta for event in events]),
        "budget": creations.budget,
        "amount": creations.amount,
    }
    async with connection.cursor(binary=True) as cursor:
        await cursor.execute(APPEND_CREATIONS, arguments, prepare=True)
        row = await cursor.fetchone()
    assert row is not None, "append_creations() returns one row"  # noqa: S101 - an invariant
    if row[0] is None:
        return None
    return Appended(recorded=_placed(events, *row), refused={})


def _placed(
    events: Sequence[NewEvent], position: int, recorded_at: datetime
) -> list[tuple[NewEvent, int, datetime]]:
    return [
        (event, position + nth, recorded_at + nth * MICROSECOND)
        for nth, event in enumerate(events, 1)
    ]
