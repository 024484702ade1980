"""Waiting for the read model to catch up: bounded, shared, and free when there is nothing to do."""

from __future__ import annotations

import asyncio
import io
import json
import socket
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import psycopg
import pytest

from codebase.engine.log.end_watch import EndWatch
from codebase.engine.log.extent import Extent
from codebase.engine.projections.freshness import Freshness
from codebase.engine.projections.read_model import READ_MODEL
from codebase.engine.projections.waiting_room import TooManyWaitingError, WaitingRoom
from codebase.foundation.observability import logs
from tests.clocks import on_a_jumping_clock
from tests.logs import ANOTHER, OURS, end_log_at, name_log
from tests.patience import PATIENCE_SECONDS

if TYPE_CHECKING:
    from tests.databases import Databases

ME = "me"
NOBODY_LISTENS = "postgresql://nobody@127.0.0.1:1/nothing"


def seen(position: int, partition: int = 0, log_id: str = OURS) -> Extent:
    return Extent(log_id, {partition: position})


def move(databases: Databases, position: int, log_id: str | None = OURS) -> None:
    """The read model is that far in partition 0, and of that log."""
    with databases.as_read_model_owner() as owner:
        owner.execute(
            "INSERT INTO projection_checkpoint (projector, partition, position, log_id)"
            " VALUES (%(projector)s, 0, %(position)s, %(log_id)s)"
            " ON CONFLICT (projector, partition)"
            " DO UPDATE SET position = %(position)s, log_id = %(log_id)s",
            {"projector": READ_MODEL, "position": position, "log_id": log_id},
        )


Test = Callable[[Freshness], Awaitable[None]]


def run(
    databases: Databases, test: Test, *, log_url: str | None = None, room: WaitingRoom | None = None
) -> None:
    async def running() -> None:
        freshness = Freshness(
            databases.settings.required("read_model_url"),
            READ_MODEL,
            WaitingRoom(1000, 1000) if room is None else room,
            EndWatch(log_url, PATIENCE_SECONDS),
        )
        try:
            await test(freshness)
        finally:
            await freshness.close()

    asyncio.run(running())


def run_beside_the_log(databases: Databases, test: Test) -> None:
    run(databases, test, log_url=databases.settings.required("write_model_head_url"))


def test_what_is_there_already_is_covered(databases: Databases) -> None:
    move(databases, 10)

    async def test(freshness: Freshness) -> None:
        assert await freshness.reach(seen(10), PATIENCE_SECONDS, ME) == seen(10)
        assert await freshness.reach(Extent(OURS), 0, ME)
        assert await freshness.reach(seen(9), 0, ME), "known by now, so it costs no wait"

    run(databases, test)


def test_past_the_deadline_it_says_no_instead_of_guessing(databases: Databases) -> None:
    move(databases, 10)

    async def test(freshness: Freshness) -> None:
        assert await freshness.reach(seen(11), 0.1, ME) is None
        beside = Extent(OURS, {0: 10, 7: 1})
        assert await freshness.reach(beside, 0.1, ME) is None, "a partition nobody knows"

    run(databases, test)


def test_a_hundred_waiters_share_one_connection_and_all_hear_of_it(databases: Databases) -> None:
    move(databases, 0)

    async def test(freshness: Freshness) -> None:
        waiting = [
            asyncio.create_task(freshness.reach(seen(5), PATIENCE_SECONDS, ME)) for _ in range(100)
        ]
        await asyncio.sleep(0)
        await asyncio.to_thread(move, databases, 5)
        assert await asyncio.gather(*waiting) == [seen(5)] * 100
        with databases.as_read_model_owner() as owner:
            row = owner.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                " AND application_name = 'read_model_sync checkpoints'"
            ).fetchone()
        assert row == (1,)

    run(databases, test)


def test_nobody_asks_while_nobody_waits(databases: Databases) -> None:
    move(databases, 1)

    async def test(freshness: Freshness) -> None:
        assert await freshness.reach(seen(1), PATIENCE_SECONDS, ME)
        poller = freshness._poller  # noqa: SLF001 - that it ends is what is tested
        assert poller is not None
        await asyncio.wait_for(poller, PATIENCE_SECONDS)

    run(databases, test)


def test_whoever_gives_up_makes_room(databases: Databases) -> None:
    move(databases, 1)
    room = WaitingRoom(1, 1)

    async def test(freshness: Freshness) -> None:
        waiting = asyncio.create_task(freshness.reach(seen(2), PATIENCE_SECONDS, ME))
        await asyncio.sleep(0)
        with pytest.raises(TooManyWaitingError):
            await freshness.reach(seen(2), PATIENCE_SECONDS, ME)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert await freshness.reach(seen(2), 0, ME) is None
        assert len(room) == 0

    run(databases, test, room=room)


def test_nobody_waits_for_what_is_not_in_the_log(databases: Databases) -> None:
    """As after a restore: the log is shorter than what browsers have seen of it."""
    move(databases, 5)
    name_log(databases, OURS)
    end_log_at(databases, 7)

    async def test(freshness: Freshness) -> None:
        held = await freshness.reach(seen(8), PATIENCE_SECONDS, ME)
        assert held == Extent(OURS, {}), "it does not come"
        assert await freshness.reach(seen(7), 0.1, ME) is None, "it may yet come"

    run_beside_the_log(databases, test)


@pytest.mark.parametrize("log_is_there", [True, False])
def test_nobody_waits_for_another_log(databases: Databases, *, log_is_there: bool) -> None:
    move(databases, 5)
    name_log(databases, OURS)
    end_log_at(databases, 7)

    async def test(freshness: Freshness) -> None:
        foreign = seen(1_000, log_id=ANOTHER)
        held = await freshness.reach(foreign, PATIENCE_SECONDS, ME)
        assert held == Extent(ANOTHER, {})

    if log_is_there:
        run_beside_the_log(databases, test)
    else:
        run(databases, test)
        run(databases, test, log_url=NOBODY_LISTENS)


def test_a_read_model_of_another_log_than_the_present_one_is_never_up_to_date(
    databases: Databases,
) -> None:
    """The log was made anew, and the read model is still that of the old one."""
    move(databases, 1_000, ANOTHER)
    name_log(databases, OURS)
    end_log_at(databases, 7)

    async def test(freshness: Freshness) -> None:
        assert await freshness.reach(seen(7), 0.1, ME) is None
        old = seen(1_000, log_id=ANOTHER)
        assert await freshness.reach(old, PATIENCE_SECONDS, ME) == old

    run_beside_the_log(databases, test)


def test_a_read_model_that_does_not_say_of_which_log_it_is_is_waited_for(
    databases: Databases,
) -> None:
    """A projector of the release before keeps it up to date."""
    move(databases, 5, None)

    async def test(freshness: Freshness) -> None:
        assert await freshness.reach(seen(5), PATIENCE_SECONDS, ME) == seen(5)
        assert await freshness.reach(seen(6), 0.1, ME) is None

    run(databases, test)


def test_a_log_that_is_away_changes_nothing_for_those_who_wait(
    databases: Databases,
) -> None:
    move(databases, 5)

    async def test(freshness: Freshness) -> None:
        for _ in range(2):
            assert await freshness.reach(seen(6), 0.1, ME) is None
        waiting = asyncio.create_task(freshness.reach(seen(6), PATIENCE_SECONDS, ME))
        await asyncio.to_thread(move, databases, 6)
        assert await waiting == seen(6)

    lines = io.StringIO()
    with logs.configured(databases.settings, service="test", stream=lines):
        run(databases, test, log_url=NOBODY_LISTENS)
    said = [json.loads(line) for line in lines.getvalue().splitlines()]
    assert [(line["event"], line["work"]) for line in said] == [
        ("dependency_failed", "tell its end")
    ]


def test_the_log_is_asked_only_about_those_who_wait(databases: Databases) -> None:
    move(databases, 5)
    name_log(databases, OURS)
    end_log_at(databases, 7)

    async def test(freshness: Freshness) -> None:
        for _ in range(3):
            assert await freshness.reach(seen(5), PATIENCE_SECONDS, ME) == seen(5)
        assert not watchers(databases)
        assert await freshness.reach(seen(8), PATIENCE_SECONDS, ME)
        assert watchers(databases) == 1

    run_beside_the_log(databases, test)


def watchers(databases: Databases) -> int:
    with databases.as_owner() as owner:
        row = owner.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND application_name = 'log end' AND usename = 'log_head_reader'"
        ).fetchone()
    assert row is not None
    return int(row[0])


def test_a_read_model_that_says_nothing_costs_no_more_than_the_deadline() -> None:
    async def story(url: str) -> None:
        freshness = Freshness(url, READ_MODEL, WaitingRoom(1, 1), EndWatch(None, 0))
        begun = asyncio.get_running_loop().time()
        assert await freshness.reach(seen(1), 0.2, ME) is None
        assert asyncio.get_running_loop().time() - begun == pytest.approx(0.2)
        await freshness.close()

    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        on_a_jumping_clock(story(f"postgresql://nobody@{address}/nothing"))


def test_a_log_that_says_nothing_costs_no_more_than_its_deadline_and_is_left_alone_then() -> None:
    async def story(url: str) -> None:
        watch = EndWatch(url, 0.5)
        loop = asyncio.get_running_loop()
        begun = loop.time()
        assert await watch.look() is None
        assert loop.time() - begun == pytest.approx(0.5)
        assert await watch.look() is None
        assert loop.time() - begun == pytest.approx(0.5)
        await watch.close()

    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        on_a_jumping_clock(story(f"postgresql://nobody@{address}/nothing"))


def test_a_cut_connection_is_made_again(databases: Databases) -> None:
    move(databases, 1)

    async def test(freshness: Freshness) -> None:
        assert await freshness.reach(seen(1), PATIENCE_SECONDS, ME)
        with psycopg.connect(databases.server.superuser_url(), autocommit=True) as superuser:
            superuser.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'read_model_sync checkpoints'"
            )
        move(databases, 2)
        assert await freshness.reach(seen(2), PATIENCE_SECONDS, ME)

    run(databases, test)
