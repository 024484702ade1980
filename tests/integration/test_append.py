"""What append() locks, notes and shares out, call beside call."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from decimal import Decimal
from itertools import count, islice
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import psycopg
import pytest
from prometheus_client import REGISTRY
from psycopg import AsyncConnection

from codebase.engine.commands import lane, log_connection
from codebase.engine.commands.bus import CommandBus
from codebase.engine.commands.fingerprint import Fingerprints
from codebase.engine.commands.log_connection import LogConnection, LogStanding
from codebase.engine.commands.stream_reader import StreamReader
from codebase.engine.commands.submission import Outcome, Pending
from codebase.engine.commands.writer import Writer
from codebase.engine.log.appender import Appender
from codebase.engine.log.appending import Appended, append
from codebase.engine.log.budgets import move_budget
from codebase.engine.log.creations import alike, append_creations
from codebase.engine.log.events import NewEvent
from codebase.engine.log.identifiers import partition_of
from codebase.engine.log.notes import Note
from codebase.foundation.errors import ServiceUnavailable
from codebase.foundation.postgres import connect_async
from codebase.model.aggregate import Claim, Guard, Release, Require, Spend
from tests.integration.flow import eventually, waits_for_a_lock
from tests.integration.test_command_bus import order, together
from tests.integration.test_event_log import BUDGET, event, note, refusals, value, write
from tests.patience import NEVER_SECONDS, PATIENCE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from psycopg import Connection

    from tests.databases import Databases

ADD_PARTITIONS = """
    INSERT INTO log_partition (partition) SELECT generate_series(0, 3) ON CONFLICT DO NOTHING;
    SELECT set_budget_limit(name, 1) FROM budget;
    SELECT move_budget(name, 0::smallint, 1) FROM budget;
"""
READ_EVENTS = """
    SELECT partition, stream_id, category, version, type, idempotence_key, data, meta
    FROM event ORDER BY partition, position
"""


@pytest.fixture
def four(databases: Databases) -> Databases:
    """A log of four partitions, whatever the tests run with, and a budget of 1."""
    with databases.as_owner() as owner:
        owner.execute(ADD_PARTITIONS)
    return databases


def spend(amount: str, partition: int = 0, unit: int = 0) -> NewEvent:
    return event(unit, partition=partition, guards=[Spend(BUDGET, Decimal(amount))])


def blocked(databases: Databases) -> None:
    """Wait until the call waits for somebody else."""
    eventually(lambda: waits_for_a_lock(databases.server, "test"))


@contextmanager
def locked(databases: Databases, kind: str, mode: str = "UPDATE") -> Iterator[Connection]:
    """A transaction of somebody else that holds a claim."""
    with databases.as_owner() as other, other.transaction():
        other.execute(f"SELECT FROM claim WHERE kind = '{kind}' FOR {mode}".encode())
        yield other


def hold(databases: Databases, *kinds: str) -> UUID:
    """A stream that claims a value of each kind."""
    stream = uuid4()
    write(databases, [event(0, stream, guards=[Claim(kind, "x") for kind in kinds])])
    return stream


@pytest.mark.parametrize("first", ["require", "release"])
def test_claims_are_locked_in_one_order_however_strongly(databases: Databases, first: str) -> None:
    """Else two calls that require what the other releases would wait for each other."""
    stream = hold(databases, "a", "b")
    guards: dict[str, list[Guard]] = {
        "require": [Require("a", "x"), Release("b", "x")],
        "release": [Release("a", "x"), Require("b", "x")],
    }
    units = [
        event(unit, stream, version=2 + unit, guards=[guard])
        for unit, guard in enumerate(guards[first])
    ]
    with ThreadPoolExecutor(1) as pool, locked(databases, "a") as other:
        appending = pool.submit(write, databases, units)
        blocked(databases)
        # Whoever waits for the first has not got the second.
        other.execute("SELECT FROM claim WHERE kind = 'b' FOR UPDATE NOWAIT")
        other.execute("ROLLBACK")
        assert appending.result()


def test_a_claim_that_is_required_and_released_is_locked_once_as_strongly_as_it_must(
    databases: Databases,
) -> None:
    """Two calls that share it, and then want it for themselves, would wait for each other."""
    stream = hold(databases, "a")
    units = [
        event(0, guards=[Require("a", "x")]),
        event(1, stream, version=2, guards=[Release("a", "x")]),
    ]
    with ThreadPoolExecutor(1) as pool, locked(databases, "a", "KEY SHARE") as other:
        appending = pool.submit(write, databases, units)
        blocked(databases)
        # Nobody shares it with whoever was there before.
        other.execute("SELECT FROM claim WHERE kind = 'a' FOR UPDATE NOWAIT")
        other.execute("ROLLBACK")
        [appended] = appending.result()
    assert refusals(appended) == {0: "race"}


def noting(stream: UUID, version: int, unit: int = 0) -> tuple[int, Note]:
    return unit, note(stream, version)


def write_with_notes(
    databases: Databases,
    events: Sequence[NewEvent],
    notes: Sequence[tuple[int, Note]],
    **kept: int,
) -> Appended:
    async def appending() -> Appended:
        connection = await connect_async(databases.settings.required("write_model_url"), "test")
        async with connection:
            return await append(connection, events, notes, **kept)

    return asyncio.run(appending())


def test_a_command_that_had_nothing_to_do_is_noted_only_while_that_is_so(
    databases: Databases,
) -> None:
    stream = uuid4()
    write(databases, [event(0, stream), event(0, stream, version=2)])
    late = write_with_notes(databases, [event(1)], [noting(stream, 1)])
    assert refusals(late) == {0: "stale"}
    assert value(databases, "SELECT count(*) FROM command_note") == 0
    noted = write_with_notes(databases, [], [noting(stream, 2)])
    assert not noted.refused
    assert value(databases, "SELECT version FROM command_note") == 2


def test_what_found_nothing_is_noted_beside_what_somebody_else_has_there(
    databases: Databases,
) -> None:
    stream = uuid4()
    write(databases, [event(0, stream)])
    assert not write_with_notes(databases, [], [noting(stream, 0)]).refused
    assert value(databases, "SELECT version FROM command_note") == 0


def test_a_note_goes_with_its_unit(databases: Databases) -> None:
    stream = uuid4()
    write(databases, [event(0, stream)])
    stale = event(0, stream, version=1)
    assert refusals(write_with_notes(databases, [stale], [noting(stream, 1)])) == {0: "stale"}
    assert value(databases, "SELECT count(*) FROM command_note") == 0
    own = event(0, stream, version=2)
    assert not write_with_notes(databases, [own], [noting(stream, 2)]).refused


@pytest.mark.parametrize(
    ("kept", "left"),
    [
        ({"notes_kept_days": 90}, [4, 3, 3]),
        ({"notes_kept_days": 92}, [6, 7, 8]),
        ({}, [6, 7, 8]),
    ],
)
def test_notes_are_forgotten_when_they_are_old(
    databases: Databases, kept: dict[str, int], left: list[int]
) -> None:
    """Not all at once: each call takes twice as many away as it brings, if told what is old."""
    streams = [uuid4() for _ in range(5)]
    for stream in streams:
        write(databases, [event(0, stream)])
    write_with_notes(
        databases, [], [noting(stream, 1, unit) for unit, stream in enumerate(streams)]
    )
    with databases.as_owner() as owner:
        owner.execute("UPDATE command_note SET noted_at = now() - interval '91 days'")
    found = []
    for _ in range(3):
        stream = uuid4()
        write(databases, [event(0, stream)])
        write_with_notes(databases, [], [noting(stream, 1)], **kept)
        found.append(value(databases, "SELECT count(*) FROM command_note"))
    assert found == left


def test_everybody_has_a_share_from_the_beginning(four: Databases) -> None:
    with four.as_owner() as owner:
        owner.execute("SELECT set_budget_limit(name, 0.10000002) FROM budget")
    shares = as_owner(four, "SELECT granted FROM budget_share ORDER BY partition")
    assert shares == [(Decimal(share),) for share in ("0.02500002", "0.025", "0.025", "0.025")]


def test_a_partition_whose_share_is_short_says_how_much_it_wants(four: Databases) -> None:
    [appended] = write(four, [spend("0.5", 3, 0), spend("0.2", 3, 1), spend("1.1", 3, 2)])
    assert refusals(appended) == {0: "short", 1: "short", 2: "budget"}
    assert Decimal(appended.refused[2].detail or "") == 1
    assert appended.wanted == [(BUDGET, 3, Decimal("0.7"))]


def test_a_unit_takes_from_all_of_its_shares_or_from_none(four: Databases) -> None:
    with four.as_owner() as owner:
        owner.execute("UPDATE budget_share SET granted = 0.25")
    units = [
        spend("0.2", 0, 0),
        spend("0.1", 1, 1),
        spend("0.3", 2, 1),
        spend("0.05", 0, 2),
        spend("0.2", 3, 2),
        spend("0.05", 3, 2),
        spend("0.1", 1, 3),
    ]
    [appended] = write(four, units)
    assert refusals(appended) == {1: "short"}
    assert appended.refused[1].detail == "0.3"
    spent = as_owner(four, "SELECT spent FROM budget_share ORDER BY partition")
    assert spent == [(Decimal(share),) for share in ("0.25", "0.1", "0", "0.25")]


def move(databases: Databases, partition: int, wanted: str) -> None:
    async def moving() -> None:
        connection = await connect_async(databases.settings.required("write_model_url"), "test")
        async with connection:
            await move_budget(connection, BUDGET, partition, Decimal(wanted))

    asyncio.run(moving())


def test_what_others_have_left_is_moved_to_whom_it_is_wanted_by(four: Databases) -> None:
    write(four, [spend("0.1")])
    move(four, 3, "0.7")
    [appended] = write(four, [spend("0.7", 3)])
    assert not appended.refused
    assert value(four, "SELECT sum(granted) FROM budget_share") == 1
    assert value(four, "SELECT sum(spent) FROM budget_share") == Decimal("0.8")


def test_no_share_is_ever_granted_what_another_has_spent(four: Databases) -> None:
    write(four, [spend("0.9")])
    move(four, 3, "0.5")
    [appended] = write(four, [spend("0.1", 3, 0), spend("0.00000001", 3, 1)])
    assert refusals(appended) == {1: "budget"}
    assert Decimal(appended.refused[1].detail or "") == 0
    assert value(four, "SELECT sum(granted) FROM budget_share") == 1


def test_the_limit_holds_to_the_last_digit_over_all_partitions(four: Databases) -> None:
    """Every partition spends what it can get, until nobody gets anything."""
    for turn in range(40):
        partition = turn % 4
        [appended] = write(four, [spend("0.03000001", partition)])
        if refusals(appended) == {0: "short"}:
            move(four, partition, "0.03000001")
            [appended] = write(four, [spend("0.03000001", partition)])
            assert not appended.refused
    assert refusals(appended) == {0: "budget"}
    assert value(four, "SELECT sum(spent) FROM budget_share") == 33 * Decimal("0.03000001")


def test_whoever_has_room_is_answered_though_nothing_can_be_moved_for_others(
    four: Databases,
) -> None:
    """What stands in the log is not refused because something that comes after it fails."""
    with four.as_owner() as owner:
        owner.execute("""
            UPDATE budget_share SET granted = granted - 0.01 WHERE partition = 0;
            UPDATE budget_share SET granted = 0.01 WHERE partition = 3;
            REVOKE EXECUTE ON FUNCTION move_budget FROM command_service;
        """)
    elsewhere = next(keys_in(0))
    fits, does_not = islice(keys_in(3), 2)

    async def story() -> list[Outcome | Exception]:
        async with CommandBus.open(four.settings) as bus:
            # Whoever comes first opens the lanes, and the others would not be one batch.
            await bus.execute(order(elsewhere))
            return await together(bus, [order(does_not, "501"), order(fits, "500")])

    refused, answered = asyncio.run(story())
    assert isinstance(refused, psycopg.errors.InsufficientPrivilege)
    assert isinstance(answered, Outcome)
    assert value(four, "SELECT count(*) FROM event WHERE partition = 3") == 1


def batches() -> float:
    written = REGISTRY.get_sample_value("orderly_command_batch_size_count")
    assert written is not None
    return written


@pytest.mark.parametrize(
    ("orders", "expected"),
    [
        # Two are under way at a time, and each takes along what waits in the other lanes.
        ({0: 8, 1: 8, 2: 8, 3: 8}, 2),
        ({0: 3, 1: 1, 2: 4, 3: 1}, 1),
        # Who has enough for itself writes it by itself, with both of its writers, beside others.
        ({0: 5, 3: 40}, 3),
        ({0: 16, 1: 16, 2: 16, 3: 16}, 4),
    ],
)
def test_lanes_share_batches_while_they_have_little_to_write(
    four: Databases, orders: dict[int, int], expected: int
) -> None:
    keys = [key for each, count in orders.items() for key in islice(keys_in(each), count)]

    async def story() -> float:
        async with CommandBus.open(four.settings) as bus:
            # Whoever comes first opens the lanes.
            await bus.execute(order("first", "1"))
            before = batches()
            answers = await together(bus, [order(key, "1") for key in keys])
            assert all(isinstance(each, Outcome) for each in answers)
            return batches() - before

    with four.as_owner() as owner:
        owner.execute("SELECT set_budget_limit(name, 100) FROM budget")
    assert asyncio.run(story()) == expected
    count_others = """
        SELECT partition, count(*)::integer FROM event
        WHERE idempotence_key <> 'first' GROUP BY partition
    """
    assert dict(as_owner(four, count_others)) == orders


def under_way() -> float:
    """How many batches are being decided or written."""
    name = "orderly_command_batches_in_progress"
    counts = [REGISTRY.get_sample_value(name, {"partition": str(each)}) for each in range(4)]
    return sum(filter(None, counts))


@pytest.mark.parametrize(
    ("long_seconds", "arriving", "expected"),
    [
        pytest.param(NEVER_SECONDS, [{0: 4, 3: 3}, {1: 8}], 1, id="few wait for a quick one"),
        pytest.param(NEVER_SECONDS, [{0: 4, 3: 3}, {1: 9}], 2, id="many do not"),
        pytest.param(0, [{0: 4, 3: 3}], 2, id="nobody waits for one that takes long"),
        pytest.param(0, [{0: 4, 3: 3}, {1: 15}], 2, id="but there are never more than two"),
    ],
)
def test_another_small_batch_begins_when_it_is_worth_it(
    four: Databases,
    monkeypatch: pytest.MonkeyPatch,
    long_seconds: float,
    arriving: list[dict[int, int]],
    expected: int,
) -> None:
    """An append costs as much as sixteen orders, however small it is."""
    monkeypatch.setattr(lane, "LONG_SECONDS", long_seconds)
    keys = {partition: keys_in(partition) for partition in range(4)}

    async def story() -> None:
        async with CommandBus.open(four.settings) as bus:
            await bus.execute(order("opens the lanes", "1"))
            sent: list[asyncio.Task[Outcome]] = []

            def are_in_line() -> bool:
                return waiting() == len(sent) - 1 or under_way() == expected > 1

            with four.as_owner() as holder, holder.transaction():
                holder.execute("SELECT FROM log_partition FOR UPDATE")
                sent.append(asyncio.create_task(bus.execute(order(next(keys[0]), "1"))))
                await until(lambda: waits_for_a_lock(four.server, "command_bus"))
                for counts in arriving:
                    some = [
                        next(keys[each]) for each, count in counts.items() for _ in range(count)
                    ]
                    sent += [asyncio.create_task(bus.execute(order(key, "1"))) for key in some]
                    await until(are_in_line)
                    # Whoever was woken by that has its turn.
                    await asyncio.sleep(0)
                    await asyncio.sleep(0)
                if long_seconds == 0:
                    await until(lambda: under_way() == 2)
                assert under_way() == expected
            answers = await asyncio.gather(*sent)
            assert all(isinstance(each, Outcome) for each in answers)

    with four.as_owner() as owner:
        owner.execute("SELECT set_budget_limit(name, 100) FROM budget")
    asyncio.run(story())


def test_a_small_batch_is_no_larger_than_any_may_be(
    four: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane, "LONG_SECONDS", 0)
    keys = keys_in(1)

    async def story() -> None:
        settings = four.settings.model_copy(update={"command_batch_max": 2})
        async with CommandBus.open(settings) as bus:
            await bus.execute(order("opens the lanes", "1"))
            with four.as_owner() as holder, holder.transaction():
                holder.execute("SELECT FROM log_partition FOR UPDATE")
                sent = [asyncio.create_task(bus.execute(order(next(keys), "1")))]
                await until(lambda: waits_for_a_lock(four.server, "command_bus"))
                sent += [asyncio.create_task(bus.execute(order(next(keys), "1"))) for _ in range(5)]
                await until(lambda: under_way() == 2)
                assert waiting() == 3
            await asyncio.gather(*sent)

    with four.as_owner() as owner:
        owner.execute("SELECT set_budget_limit(name, 100) FROM budget")
    asyncio.run(story())


def waiting() -> float:
    """How many commands wait for their batch to begin."""
    name = "orderly_commands_waiting"
    counts = [REGISTRY.get_sample_value(name, {"partition": str(each)}) for each in range(4)]
    return sum(filter(None, counts))


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)


def keys_in(partition: int) -> Iterator[str]:
    """Keys of orders that lie in one of four partitions."""
    keys = (str(number) for number in count())
    return (key for key in keys if partition_of(order(key).stream_id, 4) == partition)


def as_owner(databases: Databases, statement: str) -> list[tuple[Any, ...]]:
    with databases.as_owner() as owner:
        return owner.execute(statement.encode()).fetchall()


def creations(*amounts: str) -> list[NewEvent]:
    return [spend(amount, unit=unit) for unit, amount in enumerate(amounts)]


def write_creations(databases: Databases, events: Sequence[NewEvent]) -> Appended | None:
    async def appending() -> Appended | None:
        connection = await connect_async(databases.settings.required("write_model_url"), "test")
        found = alike(events)
        assert found
        async with connection:
            return await append_creations(connection, found)

    return asyncio.run(appending())


def test_creations_are_written_as_any_events_are(
    four: Databases, request: pytest.FixtureRequest
) -> None:
    other = request.getfixturevalue("new_databases")()
    for each in (four, other):
        with each.as_owner() as owner:
            owner.execute(ADD_PARTITIONS)
            owner.execute("SELECT set_budget_limit(name, 100) FROM budget")
    spending = [("0.25", 3), ("0.5", 0), ("0.125", 3), ("2", 1), ("1", 3)]
    told = set()
    for _ in range(2):
        events = [spend(*each, unit) for unit, each in enumerate(spending)]
        [appended] = write(four, events)
        assert not appended.refused
        quickly = write_creations(other, events)
        assert quickly
        told |= {(one.stream_id, *place) for one, *place in quickly.recorded}
    assert told == set(as_owner(other, "SELECT stream_id, position, recorded_at FROM event"))
    for query in (
        READ_EVENTS,
        "SELECT name, partition, spent, granted FROM budget_share ORDER BY 2",
        "SELECT partition, position FROM log_head ORDER BY 1",
    ):
        assert as_owner(other, query) == as_owner(four, query)
    ends = "SELECT partition, max(position), max(recorded_at) FROM event GROUP BY 1 ORDER BY 1"
    heads = "SELECT partition, position, recorded_at FROM log_head WHERE position > 0 ORDER BY 1"
    assert as_owner(other, ends) == as_owner(other, heads)


def test_of_creations_all_are_written_or_none(databases: Databases) -> None:
    known = creations("0.25")
    assert write_creations(databases, known)
    assert write_creations(databases, [*creations("0.5"), spend("0.1", unit=1)])
    assert write_creations(databases, [spend("0.1", unit=7), *known]) is None
    assert write_creations(databases, creations("50", "99")) is None
    assert value(databases, "SELECT count(*) FROM event") == 3
    assert value(databases, "SELECT position FROM log_head WHERE partition = 0") == 3
    assert value(databases, "SELECT sum(spent) FROM budget_share") == Decimal("0.85")


def test_of_creations_in_several_partitions_all_are_written_or_none(four: Databases) -> None:
    with four.as_owner() as owner:
        owner.execute("UPDATE budget_share SET granted = 0.25")
    fit = [spend("0.2", 1, 0), spend("0.1", 3, 1)]
    assert write_creations(four, [*fit, spend("0.3", 2, 2), spend("0.1", 0, 3)]) is None
    assert value(four, "SELECT sum(spent) FROM budget_share") == 0
    assert value(four, "SELECT sum(position) FROM log_head") == 0
    assert write_creations(four, fit)
    assert write_creations(four, [spend("0.1", 0, 7), *fit]) is None
    assert value(four, "SELECT sum(spent) FROM budget_share") == Decimal("0.3")
    assert value(four, "SELECT count(*) FROM event") == 2


def test_who_is_refused_among_creations_is_told_and_nobody_else(databases: Databases) -> None:
    """Also by an appender that had no reason to expect it."""
    known = creations("0.25")

    async def appending() -> list[Appended]:
        connection = await connect_async(databases.settings.required("write_model_url"), "test")
        appender = Appender(notes_kept_days=90)
        async with connection:
            return [
                await appender.append(connection, events)
                for events in (known, [*creations("0.1"), _as_unit(known[0], 1)], creations("0.3"))
            ]

    first, second, third = asyncio.run(appending())
    assert [refusals(each) for each in (first, second, third)] == [{}, {1: "stale"}, {}]
    assert [place[1] for each in (first, second, third) for place in each.recorded] == [1, 2, 3]


def _as_unit(one: NewEvent, unit: int) -> NewEvent:
    one.unit = unit
    return one


def test_an_append_that_was_given_up_is_never_written(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While somebody holds the head, what is answered 503 has ended on the server as well."""
    # Of all deadlines only that of a lock passes here, long before the others would.
    monkeypatch.setattr(log_connection, "LOCK_SHARE", 1.0 / NEVER_SECONDS)
    in_no_hurry = databases.settings.model_copy(update={"database_deadline_seconds": NEVER_SECONDS})

    async def story(other: psycopg.Connection) -> None:
        async with CommandBus.open(in_no_hurry) as bus:
            for key in ("one", "two"):
                with pytest.raises(ServiceUnavailable, match="LockNotAvailable 55P03"):
                    await bus.execute(order(key))
            assert await bus.ready() == "write_model: refuses (LockNotAvailable 55P03)"
            waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            assert other.execute(waiting).fetchone() == (0,)
            other.execute("ROLLBACK")
            assert await bus.ready() is None

    with databases.as_owner() as other:
        other.execute("BEGIN")
        other.execute("SELECT FROM log_head FOR UPDATE")
        asyncio.run(story(other))
    assert value(databases, "SELECT count(*) FROM event") == 0


def test_who_repeats_is_answered_though_nobody_can_write(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a writer that has met repeats, and reads first."""
    monkeypatch.setattr(log_connection, "LOCK_SHARE", 1.0 / NEVER_SECONDS)
    settings = databases.settings.model_copy(update={"database_deadline_seconds": NEVER_SECONDS})

    async def story(other: psycopg.Connection) -> None:
        standing, loop = LogStanding(), asyncio.get_running_loop()
        fingerprints = Fingerprints.configured(settings)
        writer = Writer(
            settings, settings.partitions, fingerprints, standing, StreamReader(standing)
        )

        async def write(*keys: str) -> list[Pending]:
            batch = [Pending(order(key), loop.create_future()) for key in keys]
            assert await writer.write(batch) == []
            return batch

        await write("one")
        await write("one")
        other.execute("BEGIN")
        other.execute("SELECT FROM log_head FOR UPDATE")
        repeat, new = await write("one", "two")
        assert (await repeat.outcome).replayed
        with pytest.raises(ServiceUnavailable, match="LockNotAvailable 55P03"):
            await new.outcome
        await writer.close()

    with databases.as_owner() as other:
        asyncio.run(story(other))
    assert value(databases, "SELECT count(*) FROM event") == 1


def test_a_large_piece_of_work_has_longer_and_the_next_one_has_not(databases: Databases) -> None:
    """Also if the large one is refused."""
    # Making a connection is to take no longer either.
    in_no_hurry = databases.settings.model_copy(update={"database_deadline_seconds": 600.0})

    async def allowed(connection: AsyncConnection[Any]) -> str:
        cursor = await connection.execute("SHOW statement_timeout")
        row = await cursor.fetchone()
        assert row
        return str(row[0])

    async def refused(connection: AsyncConnection[Any]) -> None:
        await connection.execute("SELECT 1 / 0")

    async def story() -> None:
        log = LogConnection(in_no_hurry, LogStanding())
        try:
            assert await log.do(allowed) == "9min"
            assert await log.do(allowed, count=1_200_000) == "20min"
            assert await log.do(allowed) == "9min"
            with pytest.raises(psycopg.errors.DivisionByZero):
                await log.do(refused, count=1_200_000)
            assert await log.do(allowed) == "9min"
        finally:
            await log.close()

    asyncio.run(story())


def test_shares_change_only_for_whoever_has_their_heads(four: Databases) -> None:
    """So that an append which has its head need not lock its share."""
    write(four, [spend("0.1")])
    with ThreadPoolExecutor(1) as pool, four.as_owner() as other, other.transaction():
        other.execute("SELECT FROM log_head WHERE partition = 2 FOR UPDATE")
        moving = pool.submit(move, four, 3, "0.7")
        blocked(four)
        assert value(four, "SELECT granted FROM budget_share WHERE partition = 3") == 0
        # Whoever appends to two partitions at once takes them in the same order.
        other.execute("SELECT FROM log_head WHERE partition = 3 FOR UPDATE NOWAIT")
        other.execute("ROLLBACK")
        moving.result()
    assert value(four, "SELECT granted FROM budget_share WHERE partition = 3") >= Decimal("0.7")


def test_a_budget_is_moved_while_every_partition_spends_it(four: Databases) -> None:
    """Nobody waits in a circle, and nothing is spent twice."""
    url = four.settings.required("write_model_url")

    async def spending(partition: int) -> Decimal:
        spent = Decimal(0)
        async with await connect_async(url, "test") as connection:
            while True:
                one = [spend("0.01000001", partition), spend("0.001", (partition + 1) % 4)]
                appended = await append(connection, one)
                for name, where, wanted in appended.wanted:
                    await move_budget(connection, name, where, wanted)
                spent += Decimal("0.01100001") * (not appended.refused)
                if appended.refused and not appended.wanted:
                    return spent

    async def story() -> list[Decimal]:
        return await asyncio.gather(*(spending(partition) for partition in range(4)))

    spent = sum(asyncio.run(story()))
    assert value(four, "SELECT sum(spent) FROM budget_share") == spent
    assert value(four, "SELECT sum(granted) FROM budget_share") <= 1
    assert 1 - spent < Decimal("0.0111")


@pytest.mark.parametrize("events", [1, 2], ids=["creations", "anything"])
def test_who_waits_while_a_log_is_closed_is_refused(databases: Databases, events: int) -> None:
    stream = uuid4()
    given = [event(0, stream, version=1 + number) for number in range(events)]

    async def appending() -> Appended:
        connection = await connect_async(databases.settings.required("write_model_url"), "test")
        async with connection:
            return await Appender(notes_kept_days=90).append(connection, given)

    def waiting() -> Appended:
        return asyncio.run(appending())

    with ThreadPoolExecutor(1) as pool, databases.as_owner() as owner:
        with owner.transaction():
            owner.execute("SELECT close_log()")
            refused = pool.submit(waiting)
            blocked(databases)
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction, match="this log is closed"):
            refused.result()
        assert value(databases, "SELECT is_log_closed()")
        owner.execute("SELECT open_log()")
    assert len(waiting().recorded) == events
