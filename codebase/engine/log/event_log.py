"""The event log: how events are stored, appended and read again."""

from __future__ import annotations

import os
import time
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from hashlib import sha1
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection, Connection
from psycopg.rows import class_row
from pydantic import TypeAdapter

from codebase.model.aggregate import Aggregate, Claim, Guard, Release, Require, Spend, Vacate

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

READ_LOG = """
    SELECT partition, position, stream_id, category, version, type, idempotence_key, data, meta,
           recorded_at
    FROM event
    WHERE partition = %(partition)s AND position > %(after)s AND position <= %(until)s
    ORDER BY position
    LIMIT %(limit)s
"""

READ_STREAMS = """
    SELECT partition, position, stream_id, category, version, type, idempotence_key, data, meta,
           recorded_at
    FROM event
    WHERE stream_id = ANY (%(streams)b::uuid[])
    ORDER BY stream_id, version
"""

READ_HOLDERS = """
    SELECT kind, value, stream_id FROM claim
    WHERE kind = ANY (%(kinds)b::text[])
    ORDER BY kind, value
"""

HOLD_CLAIMS = "SELECT hold_claims(%(kinds)b::text[], %(seconds)b)"

READ_NOTES = """
    SELECT note.stream_id, note.idempotence_key, note.fingerprint, note.version
    FROM unnest(%(stream)b::uuid[], %(key)b::text[]) AS wanted (stream_id, idempotence_key)
    JOIN command_note AS note USING (stream_id, idempotence_key)
"""

NOTE_COMMANDS = """
    SELECT note_commands(%(partition)b::smallint[], %(stream)b::uuid[], %(key)b::text[],
                         %(fingerprint)b::text[], %(version)b::integer[])
"""

READ_HEADS = "SELECT partition, position FROM log_head ORDER BY partition"

NAMESPACE = UUID("5f0ad1a6-7e0f-5c1e-9d0e-0b1c7a5e4d11")
"""The namespace of every stream id that is derived from an idempotence key."""

UUID_VERSION_5 = 5 << 76 | 2 << 62
UUID_FIELDS_MASK = ~(0xF << 76 | 0x3 << 62)

HELD = frozenset({"claim", "release"})
"""The actions of guards that leave a claim held or free."""

END_OF_LOG = 2**63 - 1

# Making an adapter costs milliseconds, using it microseconds.
ADAPTERS: dict[type[Any], TypeAdapter[Any]] = {}
MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordedEvent:
    """One row of the log.

    `data` and `meta` are JSON objects; `decode` turns `data` into the event class.
    """

    partition: int
    position: int
    stream_id: UUID
    category: str
    version: int
    type: str
    idempotence_key: str | None
    data: Mapping[str, Any]
    meta: Mapping[str, Any]
    recorded_at: datetime


class UnknownEventError(Exception):
    """The log holds an event that this version of the code does not know, or cannot read."""


# Not frozen, though never changed: a frozen dataclass takes four times as long to make, and one of
# these is made for every event.
@dataclass(kw_only=True, slots=True)
class NewEvent:
    """An event on its way into the log; `data` and `meta` are JSON texts."""

    unit: int
    partition: int
    stream_id: UUID
    category: str
    version: int
    type: str
    idempotence_key: str | None
    data: str
    meta: str
    guards: Sequence[Guard]


@dataclass(frozen=True, kw_only=True, slots=True)
class Note:
    """A command that had nothing to do when its stream was at `version`: it stays without effect.

    Whoever repeats it, however late, gets the answer that it got then.
    """

    partition: int
    stream_id: UUID
    idempotence_key: str
    fingerprint: str
    version: int


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


def creation_stream_id(client: str, category: str, idempotence_key: str) -> UUID:
    """The stream that a client's creation command leads to, however often it is sent.

    It is `uuid5(NAMESPACE, …)`, written out because the library's takes three times as long.
    """
    name = f"{client}\n{category}\n{idempotence_key}".encode()
    value = int.from_bytes(sha1(NAMESPACE.bytes + name, usedforsecurity=False).digest()[:16])
    return UUID(int=value & UUID_FIELDS_MASK | UUID_VERSION_5)


def partition_of(stream_id: UUID, partitions: int) -> int:
    """The partition that holds a stream, out of `partitions`."""
    return (stream_id.int & 0xFFFFFFFF) % partitions


def new_event_id() -> str:
    """A UUID of version 7 (RFC 9562) as text: 48 bits of milliseconds, then random bits."""
    since = f"{time.time_ns() // 1_000_000:012x}"
    random = os.urandom(10)
    digits = random.hex()
    variant = "89ab"[random[9] & 3]
    return f"{since[:8]}-{since[8:]}-7{digits[:3]}-{variant}{digits[3:6]}-{digits[6:18]}"


def adapter(event_class: type[Any]) -> TypeAdapter[Any]:
    """How an event class is written as JSON and read from it."""
    known = ADAPTERS.get(event_class)
    if known is None:
        known = ADAPTERS[event_class] = TypeAdapter(event_class)
    return known


def encode(event: object) -> str:
    """The stored JSON text of an event."""
    return adapter(type(event)).dump_json(event).decode()


def decode(recorded: RecordedEvent, aggregate: Aggregate[Any, Any, Any]) -> Any:  # noqa: ANN401 - any event class of the model
    """The event object that a row of the log stands for.

    Args:
        recorded: a row.
        aggregate: of the row's category.

    Raises:
        UnknownEventError: the aggregate has no such event, or data that does not fit it.
    """
    event_class = _event_classes(aggregate.events).get(recorded.type)
    if event_class is None or recorded.category != aggregate.category:
        raise UnknownEventError(f"no event {recorded.type} in category {recorded.category}")
    try:
        return adapter(event_class).validate_python(recorded.data)
    except ValueError as error:
        raise UnknownEventError(
            f"{recorded.type} at {recorded.partition}:{recorded.position} cannot be read"
        ) from error


@cache
def _event_classes(events: tuple[type[Any], ...]) -> dict[str, type[Any]]:
    return {event_class.__name__: event_class for event_class in events}


def fold(aggregate: Aggregate[Any, Any, Any], recorded: Sequence[RecordedEvent]) -> Any:  # noqa: ANN401
    """The state of a stream after `recorded`, or None when there are no events."""
    return aggregate.fold([decode(row, aggregate) for row in recorded])


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


async def read_streams(
    connection: AsyncConnection[Any], streams: Sequence[UUID]
) -> dict[UUID, list[RecordedEvent]]:
    """Every event of the given streams, in version order."""
    found: dict[UUID, list[RecordedEvent]] = {stream: [] for stream in streams}
    async with connection.cursor(row_factory=class_row(RecordedEvent), binary=True) as cursor:
        await cursor.execute(READ_STREAMS, {"streams": list(found)}, prepare=True)
        async for row in cursor:
            found[row.stream_id].append(row)
    return found


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


async def read_notes(
    connection: AsyncConnection[Any], keys: Sequence[tuple[UUID, str]]
) -> dict[UUID, dict[str, tuple[str, int]]]:
    """Stream -> key -> fingerprint and version, of those commands that had nothing to do.

    Args:
        connection: to the write model.
        keys: stream and idempotence key of the commands asked about.
    """
    wanted = {"stream": [stream for stream, _ in keys], "key": [key for _, key in keys]}
    found: dict[UUID, dict[str, tuple[str, int]]] = {}
    async with connection.cursor(binary=True) as cursor:
        await cursor.execute(READ_NOTES, wanted, prepare=True)
        async for stream_id, key, fingerprint, version in cursor:
            found.setdefault(stream_id, {})[key] = fingerprint, version
    return found


async def write_notes(connection: AsyncConnection[Any], notes: Sequence[Note]) -> None:
    """Remember commands that had nothing to do; what is known already stays as it is."""
    columns = {
        "partition": [note.partition for note in notes],
        "stream": [note.stream_id for note in notes],
        "key": [note.idempotence_key for note in notes],
        "fingerprint": [note.fingerprint for note in notes],
        "version": [note.version for note in notes],
    }
    async with connection.cursor(binary=True) as cursor:
        await cursor.execute(NOTE_COMMANDS, columns, prepare=True)


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
