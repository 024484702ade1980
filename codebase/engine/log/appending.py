"""Writing to the log: units of events in one statement, with what they claim and spend."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from psycopg import AsyncConnection

from codebase.engine.log.events import NewEvent
from codebase.model.aggregate import Claim, Guard, Release, Require, Spend, Vacate

APPEND = """
    SELECT head_partition, head_position, head_recorded_at,
           refused_unit, refused_why, refused_guard, refused_detail
    FROM append(
        %(event_unit)b::integer[], %(event_partition)b::smallint[], %(event_stream)b::uuid[],
        %(event_category)b::text[], %(event_version)b::integer[], %(event_type)b::text[],
        %(event_key)b::text[], %(event_data)b::text[], %(event_meta)b::text[],
        %(guard_unit)b::integer[], %(guard_action)b::text[], %(guard_name)b::text[],
        %(guard_value)b::text[], %(guard_stream)b::uuid[]
    )
"""

HELD = frozenset({"claim", "release"})
"""The actions of guards that leave a claim held or free."""
MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusal:
    """Why a unit was not written: `why` is stale, claim, race or budget."""

    why: str
    guard: str | None
    detail: str | None

    @property
    def by_guard(self) -> bool:
        """Whether a rule said no, as opposed to somebody else having been faster."""
        return self.why in {"claim", "budget"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Appended:
    """What became of an append.

    Args:
        recorded: every event that was written, with its position and time, in log order.
        refused: unit -> why it was not written.
    """

    recorded: list[tuple[NewEvent, int, datetime]]
    refused: dict[int, Refusal]


def _guard_row(guard: Guard) -> tuple[str, str, str]:
    match guard:
        case Claim(kind=kind, value=value):
            return "claim", kind, value
        case Release(kind=kind, value=value):
            return "release", kind, value
        case Spend(name=name, amount=amount):
            return "spend", name, format(amount, "f")
        case Require(kind=kind, value=value):
            return "require", kind, value
        case Vacate(kind=kind):
            return "vacate", kind, ""


def _guard_rows(events: Sequence[NewEvent]) -> list[tuple[int, str, str, str, UUID]]:
    """What the events of each unit claim, release and spend, taken together.

    A value that a unit claims and releases again, or releases and claims again, stays as it was.
    """
    rows = [
        (event.unit, *_guard_row(guard), event.stream_id)
        for event in events
        for guard in event.guards
    ]
    actions: dict[tuple[int, str, str], list[str]] = {}
    for unit, action, name, value, _ in rows:
        if action in HELD:
            actions.setdefault((unit, name, value), []).append(action)
    if not actions:
        return rows
    net = []
    for row in rows:
        unit, action, name, value, _ = row
        done = actions.pop((unit, name, value), []) if action in HELD else [action]
        if done and done[0] == done[-1]:
            net.append(row)
    return net


def append_parameters(events: Sequence[NewEvent]) -> dict[str, Any]:
    """The arrays that append() takes, column by column."""
    guards = _guard_rows(events)
    guard_columns = list(zip(*guards, strict=True)) or [()] * 5
    return {
        "event_unit": [event.unit for event in events],
        "event_partition": [event.partition for event in events],
        "event_stream": [event.stream_id for event in events],
        "event_category": [event.category for event in events],
        "event_version": [event.version for event in events],
        "event_type": [event.type for event in events],
        "event_key": [event.idempotence_key for event in events],
        "event_data": [event.data for event in events],
        "event_meta": [event.meta for event in events],
        "guard_unit": list(guard_columns[0]),
        "guard_action": list(guard_columns[1]),
        "guard_name": list(guard_columns[2]),
        "guard_value": list(guard_columns[3]),
        "guard_stream": list(guard_columns[4]),
    }


async def append(connection: AsyncConnection[Any], events: Sequence[NewEvent]) -> Appended:
    """Append units of events in one statement; see migrations/write_model for what is refused.

    Args:
        connection: in autocommit mode.
        events: in log order.
    """
    async with connection.cursor(binary=True) as cursor:
        await cursor.execute(APPEND, append_parameters(events), prepare=True)
        row = await cursor.fetchone()
    assert row is not None, "append() returns one row"  # noqa: S101 - an invariant
    partitions, positions, times, *refusals = row
    refused = {
        unit: Refusal(why=why, guard=guard, detail=detail)
        for unit, why, guard, detail in zip(*refusals, strict=True)
    }
    heads = dict(zip(partitions, zip(positions, times, strict=True), strict=True))
    return Appended(recorded=list(_placed(events, heads, refused)), refused=refused)


async def try_to_append(connection: AsyncConnection[Any]) -> None:
    """Find out whether the log takes events: one is appended, and taken back at once.

    Raises:
        psycopg.Error: it does not.
    """
    probe = NewEvent(
        unit=0,
        partition=0,
        stream_id=uuid4(),
        category="probe",
        version=1,
        type="Probed",
        idempotence_key=None,
        data="{}",
        meta="{}",
        guards=(),
    )
    async with connection.transaction(force_rollback=True):
        await append(connection, [probe])


def _placed(
    events: Sequence[NewEvent],
    heads: dict[int, tuple[int, datetime]],
    refused: Container[int],
) -> Iterator[tuple[NewEvent, int, datetime]]:
    for event in events:
        if event.unit not in refused:
            position, recorded_at = heads[event.partition]
            heads[event.partition] = position + 1, recorded_at + MICROSECOND
            yield event, *heads[event.partition]
