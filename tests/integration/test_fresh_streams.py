"""What goes on where its own process left off need not read, and is right all the same."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import psycopg
import pytest

from codebase.engine.commands.fresh_streams import STREAMS_MAX, FreshStream, FreshStreams
from codebase.engine.commands.history import Entry
from codebase.engine.commands.lane import WRITERS_PER_LANE
from codebase.engine.commands.log_connection import LogStanding
from codebase.engine.log.identifiers import creation_stream_id, partition_of
from codebase.model.refusals import Conflict
from tests.databases import PARTITIONS
from tests.integration.test_long_streams import (
    ALICE,
    COUNTER,
    Add,
    Added,
    Folds,
    adding,
    tampering,
    with_buses,
)
from tests.patience import PATIENCE_SECONDS

if TYPE_CHECKING:
    from codebase.engine.commands.bus import CommandBus
    from tests.databases import Databases

GROWS = "UPDATE event SET data = jsonb_set(data, '{by}', '5') WHERE stream_id = %s"
BREAK = """
    SELECT pg_terminate_backend(pid, %s) FROM pg_stat_activity
    WHERE application_name = 'command_bus'
"""
CONNECTED = """
    SELECT count(*) FROM pg_stat_activity
    WHERE application_name = 'command_bus' AND datname = current_database()
"""


def entry() -> Entry:
    return Entry(
        event=Added(by=1),
        client="alice",
        idempotence_key=None,
        creates=False,
        fingerprint=None,
        command_id=None,
    )


def fresh(version: int = 1) -> FreshStream:
    return FreshStream(category="counter", version=version, last=entry(), state=version)


def not_at_one(command: Add, state: int | None) -> list[Added]:
    if state == 1:
        raise Conflict("one is not enough")
    return [Added(by=1)] * command.by


def once_then_by_two(command: Add, state: int | None) -> list[Added]:
    return [Added(by=command.by)] if state is None or command.by == 2 else []


def not_beyond_two(state: int | None, event: Added) -> int:
    if event.by > 2:
        raise KeyError("a bug")
    return (state or 0) + event.by


async def connect(bus: CommandBus, databases: Databases) -> None:
    """Let every writer make its connection, which each does when it has something to write.

    Whatever is known of streams is forgotten for each of these, so that a test of what is known
    must have them behind it. The writers of a lane take turns.
    """
    for partition in range(PARTITIONS):
        in_partition = (
            each for each in iter(uuid4, None) if partition_of(each, PARTITIONS) == partition
        )
        for stream_id in islice(in_partition, WRITERS_PER_LANE):
            await bus.execute(adding(stream_id))
    with databases.as_owner() as owner:
        # One is the bus's own.
        assert owner.execute(CONNECTED).fetchone() == (1 + PARTITIONS * WRITERS_PER_LANE,)


def test_steps_of_one_process_read_nothing(databases: Databases) -> None:
    stream, folds = uuid4(), Folds()

    async def story(bus: CommandBus) -> None:
        await connect(bus, databases)
        for nth in range(1, 6):
            outcome = await bus.execute(adding(stream, aggregate=folds.counter))
            assert outcome.state == outcome.version == nth
        assert folds.total == 5

    with_buses(databases, 1, story)


def test_where_nobody_goes_on_nothing_is_kept(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[UUID] = []
    monkeypatch.setattr(FreshStreams, "keep", lambda _self, stream_id, *_: kept.append(stream_id))
    stream = uuid4()

    async def story(bus: CommandBus) -> None:
        await bus.execute(adding(uuid4(), key="once", creates=True))
        assert kept == []
        await bus.execute(adding(stream))
        assert kept == [stream]

    with_buses(databases, 1, story)


def test_who_has_a_key_is_told_what_the_log_knows_of_it(databases: Databases) -> None:
    stream = uuid4()

    async def story(bus: CommandBus) -> None:
        await connect(bus, databases)
        await bus.execute(adding(stream, key="once"))
        await bus.execute(adding(stream))
        repeat = await bus.execute(adding(stream, key="once"))
        assert (repeat.replayed, repeat.version) == (True, 1)

    with_buses(databases, 1, story)


@pytest.mark.parametrize("repeat_first", [True, False])
def test_a_creation_that_is_repeated_beside_a_step_is_known_again(
    databases: Databases, *, repeat_first: bool
) -> None:
    stream = creation_stream_id(ALICE.name, COUNTER.category, "once")
    once = replace(COUNTER, decide=once_then_by_two)

    async def story(bus: CommandBus) -> None:
        await connect(bus, databases)
        created = adding(stream, key="once", aggregate=once, creates=True)
        await bus.execute(created)
        both = [created, adding(stream, by=2, aggregate=once)]
        told = await asyncio.gather(
            *(bus.execute(each) for each in (both if repeat_first else both[::-1]))
        )
        repeat, step = told if repeat_first else told[::-1]
        assert (repeat.replayed, repeat.version, repeat.state) == (True, 1, 1)
        assert (step.replayed, step.version, step.state) == (False, 2, 3)

    with_buses(databases, 1, story)


def test_a_state_that_cannot_be_made_is_the_senders_alone(databases: Databases) -> None:
    """Whoever goes again, because another process was faster, is answered all the same."""
    breaks = replace(
        COUNTER, decide=lambda command, _: [Added(by=command.by)], evolve=not_beyond_two
    )
    stream = uuid4()

    async def story(ours: CommandBus, theirs: CommandBus) -> None:
        await connect(ours, databases)
        await ours.execute(adding(stream, aggregate=breaks))
        await theirs.execute(adding(stream, aggregate=breaks))
        broken, overtaken = await asyncio.gather(
            ours.execute(adding(uuid4(), by=3, aggregate=breaks)),
            ours.execute(adding(stream, aggregate=breaks)),
            return_exceptions=True,
        )
        assert isinstance(broken, KeyError)
        assert (overtaken.version, overtaken.state) == (3, 3)

    with_buses(databases, 2, story)


def test_what_another_process_wrote_meanwhile_is_seen(databases: Databases) -> None:
    stream = uuid4()

    async def story(ours: CommandBus, theirs: CommandBus) -> None:
        await connect(ours, databases)
        for nth in range(1, 6, 2):
            assert (await ours.execute(adding(stream))).state == nth
            assert (await theirs.execute(adding(stream))).state == nth + 1

    with_buses(databases, 2, story)


def test_who_has_nothing_to_do_is_told_how_it_stands_in_the_log(databases: Databases) -> None:
    stream = uuid4()

    async def story(ours: CommandBus, theirs: CommandBus) -> None:
        await connect(ours, databases)
        await ours.execute(adding(stream))
        await theirs.execute(adding(stream))
        outcome = await ours.execute(adding(stream, by=0))
        assert (outcome.state, outcome.version, outcome.changed) == (2, 2, False)

    with_buses(databases, 2, story)


def test_nobody_is_refused_for_what_is_no_longer_so(databases: Databases) -> None:
    stream, choosy = uuid4(), replace(COUNTER, decide=not_at_one)

    async def story(ours: CommandBus, theirs: CommandBus) -> None:
        await connect(ours, databases)
        await ours.execute(adding(stream))
        await theirs.execute(adding(stream))
        assert (await ours.execute(adding(stream, aggregate=choosy))).state == 3
        other = uuid4()
        await ours.execute(adding(other))
        with pytest.raises(Conflict, match="one is not enough"):
            await ours.execute(adding(other, aggregate=choosy))

    with_buses(databases, 2, story)


def test_nothing_is_assumed_of_what_is_found_on_a_new_connection(databases: Databases) -> None:
    """A log that was restored may hold something else at the same version."""
    stream = uuid4()

    async def story(bus: CommandBus) -> None:
        await connect(bus, databases)
        await bus.execute(adding(stream))
        with tampering(databases) as owner:
            owner.execute(GROWS, [stream])
        with psycopg.connect(databases.server.superuser_url(), autocommit=True) as superuser:
            superuser.execute(BREAK, [int(PATIENCE_SECONDS * 1000)])
        assert (await bus.execute(adding(stream))).state == 6

    with_buses(databases, 1, story)


def test_so_many_are_kept_and_those_that_were_used_last() -> None:
    streams, first = FreshStreams(LogStanding()), UUID(int=0)
    for nth in range(STREAMS_MAX):
        streams.keep(UUID(int=nth), fresh(), 0)
    streams.keep(first, fresh(version=2), 0)
    streams.keep(uuid4(), fresh(), 0)
    assert len(streams) == STREAMS_MAX
    known: Any = streams.histories([first, UUID(int=1)])
    assert [(each, history.version, history.read) for each, history in known.items()] == [
        (first, 2, False)
    ]


def test_what_was_written_over_an_earlier_connection_is_not_kept() -> None:
    standing = LogStanding()
    streams = FreshStreams(standing)
    before = streams.connections
    standing.connections += 1
    streams.keep(UUID(int=1), fresh(), before)
    assert len(streams) == 0
    streams.keep(UUID(int=1), fresh(), streams.connections)
    assert len(streams) == 1
