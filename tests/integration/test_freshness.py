"""Waiting for the read model to catch up: bounded, shared, and free when there is nothing to do."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import psycopg
import pytest

from codebase.engine.projections.freshness import Freshness
from codebase.engine.projections.read_model import READ_MODEL
from tests.clocks import on_a_jumping_clock
from tests.patience import PATIENCE_SECONDS

if TYPE_CHECKING:
    from tests.databases import Databases


def move(databases: Databases, position: int) -> None:
    with databases.as_read_model_owner() as owner:
        owner.execute(
            "INSERT INTO projection_checkpoint (projector, partition, position)"
            " VALUES (%s, 0, %s) ON CONFLICT (projector, partition)"
            " DO UPDATE SET position = excluded.position",
            [READ_MODEL, position],
        )


def run(databases: Databases, test: Callable[[Freshness], Awaitable[None]]) -> None:
    async def running() -> None:
        freshness = Freshness(databases.settings.required("read_model_url"), READ_MODEL)
        try:
            await test(freshness)
        finally:
            await freshness.close()

    asyncio.run(running())


def test_what_is_there_already_is_covered(databases: Databases) -> None:
    move(databases, 10)

    async def test(freshness: Freshness) -> None:
        assert await freshness.covers({0: 10}, PATIENCE_SECONDS)
        assert await freshness.covers({}, 0)
        assert await freshness.covers({0: 9}, 0), "known by now, so it costs no wait"

    run(databases, test)


def test_past_the_deadline_it_says_no_instead_of_guessing(databases: Databases) -> None:
    move(databases, 10)

    async def test(freshness: Freshness) -> None:
        assert not await freshness.covers({0: 11}, 0.1)
        assert not await freshness.covers({0: 10, 7: 1}, 0.1), "a partition nobody knows"

    run(databases, test)


def test_a_hundred_waiters_share_one_connection_and_all_hear_of_it(databases: Databases) -> None:
    move(databases, 0)

    async def test(freshness: Freshness) -> None:
        waiting = [
            asyncio.create_task(freshness.covers({0: 5}, PATIENCE_SECONDS)) for _ in range(100)
        ]
        await asyncio.sleep(0)
        await asyncio.to_thread(move, databases, 5)
        assert await asyncio.gather(*waiting) == [True] * 100
        with psycopg.connect(databases.server.superuser_url()) as superuser:
            row = superuser.execute(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE application_name = 'read_model_sync checkpoints'"
            ).fetchone()
        assert row == (1,)

    run(databases, test)


def test_nobody_asks_while_nobody_waits(databases: Databases) -> None:
    move(databases, 1)

    async def test(freshness: Freshness) -> None:
        assert await freshness.covers({0: 1}, PATIENCE_SECONDS)
        poller = freshness._poller  # noqa: SLF001 - that it ends is what is tested
        assert poller is not None
        await asyncio.wait_for(poller, PATIENCE_SECONDS)

    run(databases, test)


def test_a_read_model_that_says_nothing_costs_no_more_than_the_deadline() -> None:
    async def story(url: str) -> None:
        freshness = Freshness(url, READ_MODEL)
        begun = asyncio.get_running_loop().time()
        assert not await freshness.covers({0: 1}, 0.2)
        assert asyncio.get_running_loop().time() - begun == pytest.approx(0.2)
        await freshness.close()

    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        on_a_jumping_clock(story(f"postgresql://nobody@{address}/nothing"))


def test_a_cut_connection_is_made_again(databases: Databases) -> None:
    move(databases, 1)

    async def test(freshness: Freshness) -> None:
        assert await freshness.covers({0: 1}, PATIENCE_SECONDS)
        with psycopg.connect(databases.server.superuser_url(), autocommit=True) as superuser:
            superuser.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'read_model_sync checkpoints'"
            )
        move(databases, 2)
        assert await freshness.covers({0: 2}, PATIENCE_SECONDS)

    run(databases, test)
