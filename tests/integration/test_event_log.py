"""append() against a real Postgres: dense positions, commit order, guards, no way around it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import AsyncConnection

from codebase.engine.log.appender import Appender
from codebase.engine.log.appending import Appended, append
from codebase.engine.log.events import NewEvent
from codebase.engine.log.identifiers import partition_of
from codebase.engine.log.notes import Note
from codebase.engine.log.reading import read_heads, read_log
from codebase.foundation.postgres import connect, connect_async
from codebase.model.aggregate import Claim, Guard, Release, Require, Spend, Vacate

if TYPE_CHECKING:
    from tests.databases import Databases

BUDGET = "order_book_btc"


def event(
    unit: int = 0,
    stream_id: UUID | None = None,
    *,
    version: int = 1,
    partition: int = 0,
    key: str | None = None,
    guards: Sequence[Guard] = (),
) -> NewEvent:
    return NewEvent(
        unit=unit,
        partition=partition,
        stream_id=stream_id or uuid4(),
        category="test",
        version=version,
        type="Tested",
        idempotence_key=key,
        data="{}",
        meta='{"event_id": "x"}',
        guards=guards,
    )


def write(databases: Databases, *calls: Sequence[NewEvent]) -> list[Appended]:
    """Append each call in turn on one connection."""

    async def appending() -> list[Appended]:
        connection = await connect_async(databases.settings.required("write_model_url"), "test")
        async with connection:
            return [await append(connection, events) for events in calls]

    return asyncio.run(appending())


def refusals(appended: Appended) -> dict[int, str]:
    return {unit: refusal.why for unit, refusal in appended.refused.items()}


def positions(appended: Appended) -> list[int]:
    return [position for _, position, _ in appended.recorded]


def value(databases: Databases, query: str) -> Any:  # noqa: ANN401
    with databases.as_owner() as connection:
        row = connection.execute(query).fetchone()
        assert row
        return row[0]


def test_positions_are_dense_and_refused_units_leave_no_gap(databases: Databases) -> None:
    stream = uuid4()
    first, second, third = write(
        databases,
        [event(0, stream), event(1), event(2)],
        [event(0), event(1, stream), event(2)],
        [event(0)],
    )
    assert positions(first) == [1, 2, 3]
    assert refusals(second) == {1: "stale"}
    assert positions(second) == [4, 5]
    assert positions(third) == [6]
    assert value(databases, "SELECT count(*) FROM event") == 6


def test_time_and_position_are_the_same_order(databases: Databases) -> None:
    write(databases, *([event(unit) for unit in range(50)] for _ in range(20)))
    assert value(
        databases,
        """
        SELECT bool_and(recorded_at > before) FROM (
            SELECT recorded_at, lag(recorded_at) OVER (ORDER BY position) AS before
            FROM event WHERE partition = 0
        ) AS events WHERE before IS NOT NULL
        """,
    )


def test_time_never_goes_back_though_the_clock_does(databases: Databases) -> None:
    write(databases, [event()])
    with databases.as_owner() as connection:
        connection.execute("ALTER TABLE event DISABLE TRIGGER event_is_append_only")
        connection.execute("UPDATE event SET recorded_at = now() + interval '1 hour'")
    (appended,) = write(databases, [event()])
    last = value(databases, "SELECT recorded_at FROM log_head WHERE partition = 0")
    assert appended.recorded[0][2] == last
    before = "SELECT recorded_at + interval '1 microsecond' FROM event WHERE position = 1"
    assert value(databases, before) == last
    assert value(databases, "SELECT max(recorded_at) > now() FROM event") is True


def test_a_missing_version_is_not_jumped_over(databases: Databases) -> None:
    stream = uuid4()
    (appended,) = write(databases, [event(0, stream, version=2), event(1)])
    assert refusals(appended) == {0: "stale"}


def test_a_unit_is_written_whole_or_not_at_all(databases: Databases) -> None:
    stream, other = uuid4(), uuid4()
    first, second = write(
        databases,
        [event(0, stream), event(0, stream, version=2), event(0, stream, version=3)],
        [event(0, other), event(0, stream, version=3), event(1, stream, version=4)],
    )
    assert positions(first) == [1, 2, 3]
    assert refusals(second) == {0: "stale"}
    assert value(databases, "SELECT max(version) FROM event") == 4


def test_a_claim_belongs_to_one_stream_until_it_is_released(databases: Databases) -> None:
    stream = uuid4()
    taken, refused, released, again = write(
        databases,
        [event(0, stream, guards=[Claim("email", "a@b.c")])],
        [event(0, guards=[Claim("email", "a@b.c")]), event(1, guards=[Claim("email", "x@y.z")])],
        [event(0, stream, version=2, guards=[Release("email", "a@b.c")])],
        [event(0, guards=[Claim("email", "a@b.c")])],
    )
    assert not taken.refused
    assert refused.refused[0].why == "claim"
    assert refused.refused[0].detail == "a@b.c"
    assert list(refused.refused) == [0]
    assert not released.refused
    assert not again.refused


def test_two_units_of_one_call_that_claim_the_same_are_a_race(databases: Databases) -> None:
    (appended,) = write(
        databases,
        [event(0, guards=[Claim("email", "a")]), event(1, guards=[Claim("email", "a")])],
    )
    assert refusals(appended) == {1: "race"}


def test_the_claims_of_one_unit_count_together(databases: Databases) -> None:
    stream, other = uuid4(), uuid4()
    mine, changed, kept, passing = write(
        databases,
        [event(0, stream, guards=[Claim("email", "a")])],
        [event(0, stream, version=2, guards=[Release("email", "a"), Claim("email", "b")])],
        [
            event(0, stream, version=3, guards=[Release("email", "b")]),
            event(0, stream, version=4, guards=[Claim("email", "b"), Claim("email", "b")]),
        ],
        [event(0, other, guards=[Claim("email", "c"), Release("email", "c")])],
    )
    assert [one.refused for one in (mine, changed, kept, passing)] == [{}] * 4
    with databases.as_owner() as connection:
        claims = connection.execute("SELECT value, stream_id FROM claim").fetchall()
    assert claims == [("b", stream)]


def test_nobody_releases_what_belongs_to_another(databases: Databases) -> None:
    write(
        databases,
        [event(0, guards=[Claim("email", "a")])],
        [event(0, guards=[Release("email", "a")])],
    )
    assert value(databases, "SELECT count(*) FROM claim") == 1


def test_the_budget_holds_to_the_last_digit_and_what_fits_gets_in(databases: Databases) -> None:
    with databases.as_owner() as connection:
        connection.execute("SELECT set_budget_limit(name, 1) FROM budget")
        connection.execute("SELECT move_budget(name, 0::smallint, 1) FROM budget")

    def spend(unit: int, amount: str) -> NewEvent:
        return event(unit, guards=[Spend(BUDGET, Decimal(amount))])

    first, second = write(
        databases,
        [spend(0, "0.6"), spend(1, "0.5"), spend(2, "0.4"), spend(3, "0.00000001")],
        [spend(0, "0.00000001")],
    )
    assert refusals(first) == {1: "budget", 3: "budget"}
    assert Decimal(first.refused[1].detail or "") == Decimal("0.4")
    assert refusals(second) == {0: "budget"}
    assert value(databases, "SELECT sum(spent) FROM budget_share") == 1


def test_an_unknown_budget_has_nothing_to_spend(databases: Databases) -> None:
    (appended,) = write(databases, [event(0, guards=[Spend("unknown", Decimal(1))]), event(1)])
    assert refusals(appended) == {0: "budget"}
    assert positions(appended) == [1]


def test_a_partition_that_does_not_exist_is_an_error(databases: Databases) -> None:
    with pytest.raises(psycopg.errors.InvalidParameterValue):
        write(databases, [event(0, partition=999)])


def test_a_key_stands_once_in_its_stream(databases: Databases) -> None:
    stream = uuid4()
    with pytest.raises(psycopg.errors.UniqueViolation):
        write(
            databases,
            [event(0, stream)],
            [event(0, stream, version=2, key="k")],
            [event(0, stream, version=3, key="k")],
        )
    assert value(databases, "SELECT count(*) FROM event") == 2
    assert value(databases, "SELECT position FROM log_head WHERE partition = 0") == 2


def test_a_reader_that_has_seen_a_position_never_meets_a_later_arrival_below_it(  # noqa: C901
    databases: Databases,
) -> None:
    """Eight writers append while a reader follows; a sequence would lose late committers."""
    partitions = databases.settings.partitions
    writers, calls = 8, 40
    errors: list[str] = []
    finished = threading.Event()

    def read() -> None:
        seen = dict.fromkeys(range(partitions), 0)
        with connect(databases.settings.required("write_model_reader_url"), "test") as connection:
            while True:
                last = finished.is_set()
                for partition in range(partitions):
                    rows = read_log(connection, partition, after=seen[partition], limit=1000)
                    got = [row.position for row in rows]
                    start = seen[partition] + 1
                    if got != list(range(start, start + len(got))):
                        errors.append(f"after {seen[partition]} came {got[:3]}")
                    seen[partition] += len(got)
                if last:
                    break
            if sum(seen.values()) != writers * calls * 3 or read_heads(connection) != seen:
                errors.append(f"the reader saw {seen}")

    def append_many() -> None:
        batches = []
        for _ in range(calls):
            streams = [uuid4() for _ in range(3)]
            batches.append(
                [
                    event(unit, stream, partition=partition_of(stream, partitions))
                    for unit, stream in enumerate(streams)
                ]
            )
        write(databases, *batches)

    reader = threading.Thread(target=read)
    threads = [threading.Thread(target=append_many) for _ in range(writers)]
    reader.start()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    finished.set()
    reader.join()
    assert not errors


Batch = tuple[Sequence[NewEvent], Sequence[tuple[int, Note]]]


def creations(streams: Sequence[UUID]) -> Batch:
    return [event(unit, stream) for unit, stream in enumerate(streams)], []


def claimers(streams: Sequence[UUID]) -> Batch:
    return [
        event(unit, stream, guards=[Claim("email", str(stream))])
        for unit, stream in enumerate(streams)
    ], []


def mixed(streams: Sequence[UUID]) -> Batch:
    """Known streams that go on, one with a note; new ones; what is required, released, claimed."""
    first, second, third, *_ = streams
    return [
        event(0, first, version=2, guards=[Release("email", str(first)), Vacate("nothing")]),
        event(1, second, version=2, guards=[Require("email", str(third))]),
        event(2, third, version=2, guards=[Claim("email", "another")]),
        *(event(unit, uuid4()) for unit in range(3, 8)),
    ], [(8, note(streams[3], 1)), (9, note(streams[4], 1))]


def note(stream: UUID, version: int) -> Note:
    return Note(
        partition=0,
        stream_id=stream,
        client="alice",
        idempotence_key="key",
        fingerprint="1:k:f",
        version=version,
    )


@pytest.mark.parametrize(
    ("filling", "probing"),
    [
        pytest.param(claimers, mixed, id="anything"),
        pytest.param(creations, lambda _: creations([uuid4() for _ in range(10)]), id="creations"),
        pytest.param(creations, lambda known: creations(known[:10]), id="known creations"),
    ],
)
def test_an_append_touches_what_it_writes_and_not_the_whole_log(
    databases: Databases,
    filling: Callable[[Sequence[UUID]], Batch],
    probing: Callable[[Sequence[UUID]], Batch],
) -> None:
    """The plans of a connection are made while the log is empty, and must hold when it is not."""
    streams = [uuid4() for _ in range(5000)]

    async def rows_read_by_the_probe() -> int:
        connection = await connect_async(databases.settings.required("write_model_url"), "test")
        appender = Appender(notes_kept_days=90)
        async with connection:
            first, second = uuid4(), uuid4()
            for batch in (claimers([first, *(uuid4() for _ in range(4))]), creations([second])):
                await appender.append(connection, *batch)
            await appender.append(connection, *mixed([first, *(uuid4() for _ in range(4))]))
            await appender.append(connection, *creations([uuid4()]))
            for start in range(0, 5000, 500):
                await appender.append(connection, *filling(streams[start : start + 500]))
            before = await rows_read(connection)
            await appender.append(connection, *probing(streams))
            return await rows_read(connection) - before

    assert asyncio.run(rows_read_by_the_probe()) < 100


async def rows_read(connection: AsyncConnection) -> int:
    """How many rows of the log, and entries of its indexes, were read so far."""
    await connection.execute("SELECT pg_stat_force_next_flush()")
    cursor = await connection.execute(
        """
        SELECT sum(idx_tup_read) + (
            SELECT sum(seq_tup_read) FROM pg_stat_user_tables WHERE relname IN ('event', 'claim')
        )
        FROM pg_stat_user_indexes WHERE relname IN ('event', 'claim')
        """
    )
    row = await cursor.fetchone()
    return int(row[0]) if row else 0
