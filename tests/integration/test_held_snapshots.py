"""What an append and a look at the log cost while somebody goes on looking at the log as it was."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from psycopg import AsyncConnection, IsolationLevel

from codebase.engine.log.appender import Appender
from codebase.engine.log.appending import append
from codebase.engine.log.budgets import move_budget
from codebase.engine.log.extent import read_extent
from codebase.foundation.postgres import connect_async
from tests.integration.test_append import ADD_PARTITIONS, spend
from tests.integration.test_event_log import BUDGET, event, value

if TYPE_CHECKING:
    from tests.databases import Databases

HELD_FOR = 1_000
"""Appends. Each left a version of a head behind, and one of a share: a dozen pages altogether."""

ANOTHER_PAGE = 4
"""An index may have got a level, and a row may be on the next page just now."""

COUNT_PAGES = """
    SELECT sum(heap_blks_hit + heap_blks_read
               + coalesce(idx_blks_hit, 0) + coalesce(idx_blks_read, 0))
    FROM pg_statio_user_tables
    WHERE relname LIKE %s
"""

Work = Callable[[AsyncConnection[Any]], Awaitable[object]]


@contextmanager
def looking(databases: Databases) -> Iterator[None]:
    """Somebody sees the log as it is now, and goes on seeing it so."""
    with databases.as_owner() as reader:
        reader.isolation_level = IsolationLevel.REPEATABLE_READ
        with reader.transaction():
            reader.execute("SELECT count(*) FROM event")
            yield


async def pages_touched(
    connection: AsyncConnection[Any], work: Work, times: int, tables: str = "%"
) -> list[int]:
    """How many pages a piece of work looks at, each of several times."""
    counted = [await _count_pages(connection, tables)]
    for _ in range(times):
        await work(connection)
        counted.append(await _count_pages(connection, tables))
    return [after - before for before, after in pairwise(counted)]


async def _count_pages(connection: AsyncConnection[Any], tables: str) -> int:
    await connection.execute("SELECT pg_stat_force_next_flush()")
    cursor = await connection.execute(COUNT_PAGES, [tables])
    row = await cursor.fetchone()
    assert row is not None
    return int(row[0])


async def create(connection: AsyncConnection[Any]) -> None:
    await Appender(notes_kept_days=90).append(connection, [spend("0.001")])


async def create_in_all_partitions(connection: AsyncConnection[Any]) -> None:
    events = [spend("0.001", partition, unit=partition) for partition in range(4)]
    await Appender(notes_kept_days=90).append(connection, events)


async def append_anything(connection: AsyncConnection[Any]) -> None:
    appended = await append(connection, [spend("0.001")])
    assert not appended.refused


async def move(connection: AsyncConnection[Any]) -> None:
    await move_budget(connection, BUDGET, 0, 0)


@pytest.mark.parametrize(
    ("filling", "work"),
    [
        pytest.param(create, create, id="creations"),
        pytest.param(create_in_all_partitions, create_in_all_partitions, id="several partitions"),
        pytest.param(append_anything, append_anything, id="anything"),
        pytest.param(create, read_extent, id="a look at the heads"),
        pytest.param(create, move, id="moving a budget"),
    ],
)
def test_what_was_appended_while_somebody_looks_is_not_in_the_way(
    databases: Databases, filling: Work, work: Work
) -> None:
    """No version of a row can be cleared away meanwhile: nobody may have to look at all of them."""
    with databases.as_owner() as owner:
        owner.execute(ADD_PARTITIONS)
        owner.execute("SELECT set_budget_limit(name, 100) FROM budget")

    async def story() -> tuple[int, int]:
        url = databases.settings.required("write_model_url")
        async with await connect_async(url, "test") as connection:
            # Enough for the indexes of the log to be as they will be.
            for _ in range(HELD_FOR):
                await filling(connection)
            free = min(await pages_touched(connection, work, 7))
            with looking(databases):
                for _ in range(HELD_FOR):
                    await filling(connection)
                return free, min(await pages_touched(connection, work, 7))

    free, held = asyncio.run(story())
    assert held <= free + ANOTHER_PAGE
    assert value(databases, "SELECT count(*) FROM budget_share WHERE partition = 0") == 1


def test_no_append_is_kept_by_what_others_have_left_of_a_share(databases: Databases) -> None:
    """Not even one in a hundred, which finds no room on its page and makes an entry of an index."""

    async def story() -> tuple[int, int]:
        url = databases.settings.required("write_model_url")
        async with await connect_async(url, "test") as connection:
            free = max(await pages_touched(connection, create, 200, "budget_share"))
            with looking(databases):
                for _ in range(2 * HELD_FOR):
                    await create(connection)
                return free, max(await pages_touched(connection, create, 200, "budget_share"))

    with databases.as_owner() as owner:
        # Who cleans up would be counted as well.
        owner.execute("ALTER TABLE budget_share SET (autovacuum_enabled = off)")
        owner.execute("SELECT move_budget(name, 0::smallint, 100) FROM budget")
    free, held = asyncio.run(story())
    assert held <= 2 * free


def test_a_look_at_the_heads_does_not_go_through_the_log(databases: Databases) -> None:
    """Though the connection has its plan from when going through all of it was quickest."""

    async def story() -> int:
        async with (
            await connect_async(databases.settings.required("write_model_url"), "test") as writer,
            await connect_async(databases.settings.required("write_model_url"), "test") as reader,
        ):
            await create(writer)
            with databases.as_owner() as owner:
                owner.execute("VACUUM (ANALYZE) event")
            # Enough looks for a plan to be kept.
            for _ in range(7):
                await read_extent(reader)
            for _ in range(10):
                await append(writer, [event(unit) for unit in range(200)])
            return min(await pages_touched(reader, read_extent, 7))

    assert asyncio.run(story()) < 5 * (1 + databases.settings.partitions)
