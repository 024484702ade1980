"""Writing to the log: units of events and notes in one statement, and what they claim and spend."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

from psycopg import AsyncConnection

from codebase.engine.log.events import NewEvent
from codebase.engine.log.notes import Note
from codebase.foundation.arrays import integers, smallints, texts, uuids
from codebase.model.aggregate import Claim, Guard, Release, Require, Spend, Vacate

APPEND = """
    SELECT head_partition, head_position, head_recorded_at,
           refused_unit, refused_why, refused_guard, refused_detail
    FROM append(
        %(event_unit)b::integer[], %(event_partition)b::smallint[], %(event_stream)b::uuid[],
        %(event_category)b::text[], %(event_version)b::integer[], %(event_type)b::text[],
        %(event_key)b::text[], %(event_data)b::text[], %(event_meta)b::text[],
        %(guard_unit)b::integer[], %(guard_action)b::text[], %(guard_name)b::text[],
        %(guard_value)b::text[], %(guard_stream)b::uuid[], %(guard_partition)b::smallint[],
        %(note_unit)b::integer[], %(note_partition)b::smallint[], %(note_stream)b::uuid[],
        %(note_client)b::text[], %(note_key)b::text[], %(note_fingerprint)b::text[],
        %(note_version)b::integer[], %(notes_kept_days)b::integer
    )
"""

HELD = frozenset({"claim", "release"})
"""The actions of guards that leave a claim held or free."""
MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusal:
    """Why a unit was not written.

    Args:
        why: stale (what it was decided on has changed), claim, race (with another unit of the same
            call), held (the kind is being vacated), budget, or short (the partition's share of a
            budget does not do, and what all shares have left does).
        guard: kind of claim, or name of the budget.
        detail: the value that is claimed; what is left of the budget, or what is wanted of it.
    """

    why: str
    guard: str | None
    detail: str | None

    @property
    def by_guard(self) -> bool:
        """Whether a rule said no, as opposed to somebody else having been faster."""
        return self.why in {"claim", "budget"}

    @property
    def may_pass(self) -> bool:
        """Whether waiting helps, and trying again at once does not."""
        return self.why == "held"


@dataclass(frozen=True, kw_only=True, slots=True)
class Appended:
    """What became of an append.

    Args:
        recorded: every event that was written, with its position and time, in log order.
        refused: unit -> why it was not written.
        wanted: budget, partition, and what its share needs for units that found it short.
    """

    recorded: list[tuple[NewEvent, int, datetime]]
    refused: dict[int, Refusal]
    wanted: list[tuple[str, int, Decimal]] = field(default_factory=list)


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


def _guard_rows(events: Sequence[NewEvent]) -> list[tuple[int, str, str, str, UUID, int]]:
    """What the events of each unit claim, release and spend, taken together.

    A value that a unit claims and releases again, or releases and claims again, stays as it was.
    """
    rows = [
        (event.unit, *_guard_row(guard), event.stream_id, event.partition)
        for event in events
        for guard in event.guards
    ]
    actions: dict[tuple[int, str, str], list[str]] = {}
    for unit, action, name, value, *_ in rows:
        if action in HELD:
            actions.setdefault((unit, name, value), []).append(action)
    if not actions:
        return rows
    net = []
    for row in rows:
        unit, action, name, value, *_ = row
        done = actions.pop((unit, name, value), []) if action in HELD else [action]
        if done and done[0] == done[-1]:
            net.append(row)
    return net


def append_parameters(
    events: Sequence[NewEvent],
    notes: Sequence[tuple[int, Note]] = (),
    *,
    notes_kept_days: int | None = None,
) -> dict[str, Any]:
    """What append() takes: arrays, column by column, and how old notes become."""
    guards = _guard_rows(events)
    guard_columns = list(zip(*guards, strict=True)) or [()] * 6
    return {
        "event_unit": integers([event.unit for event in events]),
        "event_partition": smallints([event.partition for event in events]),
        "event_stream": uuids([event.stream_id for event in events]),
        "event_category": texts([event.category for event in events]),
        "event_version": integers([event.version for event in events]),
        "event_type": texts([event.type for event in events]),
        "event_key": texts([event.idempotence_key for event in events]),
        "event_data": texts([event.data for event in events]),
        "event_meta": texts([event.meta for event in events]),
        "guard_unit": integers(guard_columns[0]),
        "guard_action": texts(guard_columns[1]),
        "guard_name": texts(guard_columns[2]),
        "guard_value": texts(guard_columns[3]),
        "guard_stream": uuids(guard_columns[4]),
        "guard_partition": smallints(guard_columns[5]),
        "note_unit": integers([unit for unit, _ in notes]),
        "note_partition": smallints([note.partition for _, note in notes]),
        "note_stream": uuids([note.stream_id for _, note in notes]),
        "note_client": texts([note.client for _, note in notes]),
        "note_key": texts([note.idempotence_key for _, note in notes]),
        "note_fingerprint": texts([note.fingerprint for _, note in notes]),
        "note_version": integers([note.version for _, note in notes]),
        "notes_kept_days": notes_kept_days,
    }


async def append(
    connection: AsyncConnection[Any],
    events: Sequence[NewEvent],
    notes: Sequence[tuple[int, Note]] = (),
    *,
    notes_kept_days: int | None = None,
) -> Appended:
    """Append units of events and notes in one statement; see migrations/write_model.

    Args:
        connection: in autocommit mode.
        events: in log order.
        notes: unit -> a command of it that had nothing to do.
        notes_kept_days: how old notes become before they are forgotten; None: they stay.
    """
    async with connection.cursor(binary=True) as cursor:
        parameters = append_parameters(events, notes, notes_kept_days=notes_kept_days)
        await cursor.execute(APPEND, parameters, prepare=True)
        row = await cursor.fetchone()
    assert row is not None, "append() returns one row"  # noqa: S101 - an invariant
    partitions, positions, times, *refusals = row
    refused = {
        unit: Refusal(why=why, guard=guard, detail=detail)
        for unit, why, guard, detail in zip(*refusals, strict=True)
    }
    heads = dict(zip(partitions, zip(positions, times, strict=True), strict=True))
    return Appended(
        recorded=list(_placed(events, heads, refused)),
        refused=refused,
        wanted=_wanted(events, refused),
    )


def _wanted(
    events: Sequence[NewEvent], refused: Mapping[int, Refusal]
) -> list[tuple[str, int, Decimal]]:
    short = {unit: refusal for unit, refusal in refused.items() if refusal.why == "short"}
    if not short:
        return []
    wanted: defaultdict[tuple[str, int], Decimal] = defaultdict(Decimal)
    for event in events:
        for guard in event.guards:
            if event.unit in short and isinstance(guard, Spend):
                wanted[guard.name, event.partition] += guard.amount
    return [(name, partition, amount) for (name, partition), amount in sorted(wanted.items())]


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
