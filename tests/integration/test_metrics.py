"""What operators are told of lags, queues and connections is what is the case."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING
from uuid import uuid4

import psycopg
import pytest
from prometheus_client import REGISTRY
from psycopg import IsolationLevel

from codebase.engine.commands.bus import CommandBus
from codebase.foundation.oldest_snapshot import OldestSnapshot
from codebase.foundation.settings import Settings
from codebase.web.group_read import GroupRead, ReadModel
from tests.integration.flow import (
    TESTER,
    create_tested,
    eventually,
    heads,
    is_projected,
    is_relayed,
    part,
    place_orders,
    projecting,
    relaying,
    sample_event,
    write,
)
from tests.integration.shell import in_time, running, small_service
from tests.integration.test_command_bus import order
from tests.patience import PATIENCE_SECONDS

if TYPE_CHECKING:
    from tests.databases import Databases

Ports = Callable[[], int]
READ_MODEL = "read_model_sync"
CLOCKS_DIFFER_SECONDS = 1.0
"""Ours may be set while the test runs, and Postgres has another one."""


def value(name: str, **labels: object) -> float | None:
    return REGISTRY.get_sample_value(name, {key: str(each) for key, each in labels.items()})


def total(databases: Databases, name: str, **labels: object) -> float | None:
    """The sum over all partitions, None when one of them tells nothing."""
    found = [value(name, partition=each, **labels) for each in heads(databases)]
    return None if None in found else sum(filter(None, found))


def longest(databases: Databases, name: str, **labels: object) -> float:
    return max(value(name, partition=each, **labels) or 0.0 for each in heads(databases))


def test_a_relay_without_its_broker_tells_how_far_it_is_behind(
    databases: Databases, with_broker: Settings, free_port: Ports
) -> None:
    away = with_broker.model_copy(
        update={"broker_url": f"amqp://nobody:secret@127.0.0.1:{free_port()}/"}
    )
    count = 20 * len(heads(databases))
    with relaying(away):
        eventually(lambda: total(databases, "orderly_relay_lag_events") == 0)
        before_placing = monotonic()
        place_orders(databases, count)
        eventually(lambda: total(databases, "orderly_relay_lag_events") == count)
        eventually(lambda: longest(databases, "orderly_relay_lag_seconds") > 0.2)
        lag = longest(databases, "orderly_relay_lag_seconds")
        assert lag <= monotonic() - before_placing + CLOCKS_DIFFER_SECONDS
        before = longest(databases, "orderly_relay_lag_seconds")
        eventually(lambda: longest(databases, "orderly_relay_lag_seconds") > before)
        assert total(databases, "orderly_relay_leads") == 0
    with relaying(with_broker):
        eventually(lambda: is_relayed(databases))
        eventually(lambda: total(databases, "orderly_relay_lag_events") == 0)
        eventually(lambda: longest(databases, "orderly_relay_lag_seconds") == 0)
        assert total(databases, "orderly_relay_leads") == len(heads(databases))
        assert total(databases, "orderly_relay_position") == count
        assert total(databases, "orderly_log_head_position") == count


def test_an_outage_counts_from_the_event_and_not_from_when_it_was_noticed(
    databases: Databases,
) -> None:
    before_placing = monotonic()
    place_orders(databases, 5)
    with databases.as_owner() as owner:
        owner.execute("ALTER TABLE event DISABLE TRIGGER event_is_append_only")
        owner.execute("UPDATE event SET recorded_at = recorded_at - interval '1 hour'")
    waiting = databases.settings.model_copy(update={"projector_delay_seconds": 3600})
    lag = "orderly_projection_lag_seconds"
    with projecting(waiting):
        eventually(lambda: longest(databases, lag, projector=READ_MODEL) > 3600)
        told = longest(databases, lag, projector=READ_MODEL)
        assert told < 3600 + monotonic() - before_placing + CLOCKS_DIFFER_SECONDS
        # Each partition is looked at by itself.
        events = "orderly_projection_lag_events"
        eventually(lambda: total(databases, events, projector=READ_MODEL) == 5)


def test_a_projector_that_keeps_up_is_not_behind(databases: Databases) -> None:
    with projecting(databases.settings):
        place_orders(databases, 50)
        eventually(lambda: is_projected(databases))
        # One figure is told after the other.
        position, events, seconds = (
            f"orderly_projection_{each}" for each in ("position", "lag_events", "lag_seconds")
        )
        eventually(lambda: total(databases, position, projector=READ_MODEL) == 50)
        eventually(lambda: total(databases, events, projector=READ_MODEL) == 0)
        eventually(lambda: longest(databases, seconds, projector=READ_MODEL) == 0)
        checked = "orderly_projection_checked_timestamp_seconds"
        first = longest(databases, checked, projector=READ_MODEL)
        eventually(lambda: longest(databases, checked, projector=READ_MODEL) > first)


def test_one_that_stands_by_leaves_the_figures_to_the_one_that_works(
    databases: Databases, with_broker: Settings
) -> None:
    with part("projector", with_broker):
        place_orders(databases, 5)
        eventually(lambda: is_projected(databases))
        with projecting(with_broker) as team:
            eventually(lambda: asyncio.run(team.problem()) is None)
            assert total(databases, "orderly_projection_leads", projector=READ_MODEL) == 0
            assert total(databases, "orderly_projection_position", projector=READ_MODEL) is None


def test_parked_events_are_counted_until_they_are_gone(databases: Databases) -> None:
    create_tested(databases)
    settings = databases.settings.model_copy(
        update={"max_attempts": 1, "read_model_check_seconds": 0.1}
    )
    (poisoned,) = write(databases, [sample_event(settings, uuid4(), 1, "poison")])
    write(databases, [sample_event(settings, poisoned, each, "x") for each in (2, 3)])
    with projecting(settings, TESTER):
        eventually(lambda: total(databases, "orderly_parked_streams", projector="tester") == 1)
        eventually(lambda: total(databases, "orderly_parked_events", projector="tester") == 3)
        with databases.as_read_model_owner() as store:
            store.execute("DELETE FROM parked_event")
            store.execute("DELETE FROM parked_stream")
            store.execute("UPDATE projection_checkpoint SET parked_streams = 0")
        eventually(lambda: total(databases, "orderly_parked_streams", projector="tester") == 0)
        eventually(lambda: total(databases, "orderly_parked_events", projector="tester") == 0)


@contextmanager
def locked(databases: Databases) -> Iterator[None]:
    """Nobody can append."""
    with databases.as_owner() as owner, owner.transaction():
        owner.execute("SELECT FROM log_head FOR UPDATE")
        yield


async def soon(condition: Callable[[], object]) -> None:
    """As `eventually`, on an event loop."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():  # noqa: ASYNC110 - what is waited for is a figure, not an event
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("store", ["write_model", "read_model"])
def test_a_snapshot_that_somebody_holds_is_told_by_its_age(
    databases: Databases, store: str
) -> None:
    settings = databases.settings.model_copy(update={"read_model_check_seconds": 0.01})

    def told() -> float | None:
        labels = {"store": store, "projector": "read_model_sync", "partition": 0}
        return value("orderly_oldest_snapshot_seconds", **labels)

    with projecting(settings):
        with psycopg.connect(settings.required(f"{store}_owner_url")) as holder:
            holder.isolation_level = IsolationLevel.REPEATABLE_READ
            holder.execute("SELECT count(*) FROM pg_class")
            row = holder.execute("SELECT extract(epoch FROM clock_timestamp() - now())").fetchone()
            assert row is not None
            held_seconds = float(row[0])
            eventually(lambda: (told() or 0) > held_seconds)
            last = told()
            assert last is not None
        eventually(lambda: (told() or 0) < last)
    assert told() is None, "who has stopped tells nothing"


def test_a_store_is_asked_for_its_oldest_snapshot_once_per_interval(databases: Databases) -> None:
    now, url = [0.0], databases.settings.required("write_model_reader_url")
    oldest = OldestSnapshot("write_model", ("somebody", 0), 10.0, clock=lambda: now[0])

    def told() -> float | None:
        oldest.measure(asking)
        labels = {"store": "write_model", "projector": "somebody", "partition": 0}
        return value("orderly_oldest_snapshot_seconds", **labels)

    with psycopg.connect(url, autocommit=True) as asking, psycopg.connect(url) as holder:
        holder.isolation_level = IsolationLevel.REPEATABLE_READ
        holder.execute("SELECT FROM log_head")
        first = told()
        assert first is not None
        now[0] = 9.9
        assert told() == first
        now[0] = 10.0
        second = told()
        assert second is not None
        assert second > first
        oldest.forget()
        assert (told() or 0) > second, "whoever comes back asks at once"
        oldest.forget()


def test_a_store_whose_owner_sees_no_snapshots_tells_none(databases: Databases) -> None:
    database = databases.settings.required("write_model_url").rsplit("/", 1)[1]
    with psycopg.connect(databases.server.superuser_url(database)) as superuser:
        superuser.execute("ALTER FUNCTION oldest_snapshot_seconds() OWNER TO log_reader")
    with psycopg.connect(databases.settings.required("write_model_reader_url")) as reader:
        assert reader.execute("SELECT oldest_snapshot_seconds()").fetchone() == (None,)


def test_commands_that_wait_are_counted(databases: Databases) -> None:
    settings = databases.settings.model_copy(update={"command_batch_max": 1})

    def counted() -> tuple[float, float]:
        waiting = total(databases, "orderly_commands_waiting")
        writing = total(databases, "orderly_command_batches_in_progress")
        return waiting or 0, writing or 0

    async def scenario() -> None:
        async with CommandBus.open(settings) as bus:
            with locked(databases):
                commands = [asyncio.create_task(bus.execute(order(str(n)))) for n in range(20)]
                await soon(lambda: sum(counted()) == 20 and counted()[1] >= 2)
            await asyncio.gather(*commands)
            assert counted() == (0, 0)

    asyncio.run(scenario())


def test_use_of_the_connections_to_the_read_model_is_counted(databases: Databases) -> None:
    settings = databases.settings.model_copy(update={"read_connections": 2})
    slow = """
        SELECT asked.ordinal, pg_advisory_xact_lock_shared(number)::text
        FROM unnest(%(numbers)b::integer[]) WITH ORDINALITY AS asked (number, ordinal)
    """

    def counted() -> tuple[float | None, ...]:
        states = (value("orderly_read_connections", state=each) for each in ("idle", "busy"))
        return (*states, value("orderly_reads_waiting"))

    async def scenario() -> None:
        async with ReadModel.open(settings) as first, ReadModel.open(settings):
            assert counted() == (4, 0, 0), "two services of one process"
            queries = [GroupRead(first, slow, ["numbers"], "nobody") for _ in range(3)]
            with databases.as_read_model_owner() as store, store.transaction():
                store.execute("SELECT pg_advisory_xact_lock(1)")
                asked = [asyncio.create_task(query.fetch(1)) for query in queries]
                await soon(lambda: counted() == (2, 2, 1))
            await asyncio.gather(*asked)
            await soon(lambda: counted() == (4, 0, 0))

    asyncio.run(scenario())
    assert counted() == (0, 0, 0)


def test_readiness_is_a_metric_as_of_the_moment_it_is_asked_for(free_port: Ports) -> None:
    wrong: list[str] = []

    async def store() -> str | None:
        return wrong[0] if wrong else None

    async def fine() -> str | None:
        return None

    async def scenario() -> None:
        app = small_service(checks={"store": store, "fine": fine})
        async with running([app], free_port()) as server:
            assert b'orderly_ready{check="store"} 1.0' in (await server.ask("GET", "/metrics")).body
            wrong.append("it is away")
            told = (await server.ask("GET", "/metrics")).body
        assert b'orderly_ready{check="store"} 0.0' in told
        assert b'orderly_ready{check="fine"} 1.0' in told
        assert b"_created" not in told

    in_time(scenario)
