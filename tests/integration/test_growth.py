"""Appends tell a reader that rests, and nobody else; no event falls into the gap between."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import Connection

from codebase.engine.log.appender import Appender
from codebase.engine.log.events import NewEvent
from codebase.engine.log.growth import REST_LOCK, Growth
from codebase.engine.messages import relay_session
from codebase.foundation.postgres import connect, connect_async
from codebase.foundation.settings import Settings
from tests.integration.flow import (
    eventually,
    is_relayed,
    place_orders,
    query,
    relaying,
    write,
)
from tests.integration.test_append import ADD_PARTITIONS, spend
from tests.integration.test_event_log import event
from tests.patience import NEVER_SECONDS

if TYPE_CHECKING:
    from tests.databases import Databases

WHO_RESTS = (
    "SELECT count(*) FROM pg_locks WHERE classid = %s AND mode = 'ExclusiveLock' AND granted"
)
ARRIVES_UNTOLD = """
    INSERT INTO event (partition, position, stream_id, category, version, type, data, meta,
                       recorded_at)
    SELECT partition, position + 1, gen_random_uuid(), category, version, type, data, meta,
           recorded_at + interval '1 second'
    FROM event ORDER BY position DESC LIMIT 1
"""

APPEND_ONE = """
    SELECT append('{0}', '{0}', ARRAY[gen_random_uuid()], '{test}', '{1}', '{Tested}', '{NULL}',
                  ARRAY['{}'], ARRAY['{}'], '{}', '{}', '{}', '{}', '{}')
"""

Ear = tuple[Growth, Connection[Any], list[str]]


@pytest.fixture
def four(databases: Databases) -> Databases:
    """A log of four partitions with a budget of which each may spend a part."""
    with databases.as_owner() as owner:
        owner.execute(ADD_PARTITIONS)
        owner.execute("SELECT set_budget_limit(name, 1) FROM budget")
    return databases


@contextmanager
def an_ear(databases: Databases, partition: int = 0) -> Iterator[Ear]:
    """A reader, its connection, and what it was told."""
    heard: list[str] = []
    with connect(databases.settings.required("write_model_relay_url"), "test") as log:
        yield Growth(log, partition, lambda: heard.append("grown")), log, heard


def has_news(ear: Ear) -> bool:
    """Whether something has been told by now: what is committed was told before this answer."""
    growth, log, heard = ear
    log.execute("SELECT")
    told = growth.take_news()
    assert told == bool(heard)
    heard.clear()
    return told


def create(databases: Databases, *events: NewEvent) -> None:
    """Append in the way of creations that are alike."""

    async def appending() -> None:
        url = databases.settings.required("write_model_url")
        async with await connect_async(url, "test") as connection:
            appended = await Appender(notes_kept_days=90).append(connection, events)
            assert not appended.refused

    asyncio.run(appending())


Writing = Callable[["Databases", int], object]
EVERY_WAY = [
    pytest.param(lambda log, place: write(log, [event(partition=place)]), id="append"),
    pytest.param(lambda log, place: create(log, spend("0.01", place)), id="creations"),
    pytest.param(
        lambda log, place: create(log, spend("0.01", 0, 0), spend("0.01", place or 1, 1)),
        id="creations in several partitions",
    ),
]


@pytest.mark.parametrize("partition", [0, 3])
@pytest.mark.parametrize("append", EVERY_WAY)
def test_who_rests_is_told_of_every_append_and_who_does_not_of_none(
    four: Databases, append: Writing, partition: int
) -> None:
    with an_ear(four, partition) as ear:
        growth, *_ = ear
        append(four, partition)
        assert not has_news(ear)
        assert growth.rest()
        append(four, partition)
        assert has_news(ear)
        append(four, partition)
        assert has_news(ear)
        growth.stay_awake()
        append(four, partition)
        assert not has_news(ear)


def test_what_is_appended_to_another_partition_is_not_told(four: Databases) -> None:
    with an_ear(four, 1) as ear:
        growth, *_ = ear
        assert growth.rest()
        write(four, [event(partition=0), event(1, partition=2)])
        assert not has_news(ear)


def test_nobody_goes_to_rest_while_an_append_is_under_way(databases: Databases) -> None:
    """It began before it could know that it has to tell."""
    url = databases.settings.required("write_model_url")
    with an_ear(databases) as (growth, *_), psycopg.connect(url) as writer:
        with writer.transaction():
            writer.execute(APPEND_ONE)
            assert not growth.rest()
            assert not growth.is_resting
        assert growth.rest()
        assert growth.is_resting


def test_a_reader_that_is_gone_rests_no_more(databases: Databases) -> None:
    with an_ear(databases) as (first, *_):
        assert first.rest()
    with an_ear(databases) as (second, *_):
        eventually(second.rest)


def rests(databases: Databases) -> bool:
    ((count,),) = query(databases.as_owner(), WHO_RESTS, REST_LOCK)
    return bool(count == databases.settings.partitions)


def test_a_relay_that_rests_publishes_what_is_appended_then(
    databases: Databases, with_broker: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Again and again, though left to itself it would look when nobody waits any more."""
    monkeypatch.setattr(relay_session, "LONGEST_REST_SECONDS", NEVER_SECONDS)
    with relaying(with_broker):
        for _ in range(3):
            eventually(lambda: rests(databases))
            place_orders(databases, 10)
            eventually(lambda: is_relayed(databases))


def test_a_relay_that_rests_finds_what_nobody_tells(
    databases: Databases, with_broker: Settings
) -> None:
    with relaying(with_broker):
        place_orders(databases, 1)
        eventually(lambda: is_relayed(databases) and rests(databases))
        with databases.as_owner() as owner:
            owner.execute(ARRIVES_UNTOLD)
        eventually(lambda: is_relayed(databases))
