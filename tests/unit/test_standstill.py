"""Large batches and ordinary ones, one after the other; on a clock that moves when all wait."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from codebase.engine.commands.standstill import Standstill
from codebase.engine.commands.submission import Pending
from codebase.foundation.errors import ServiceUnavailable
from tests.clocks import on_a_jumping_clock

DEADLINE_SECONDS = 5.0


def waiting() -> Pending:
    """A command in line; what it asks for is of no interest."""
    return Pending(cast("Any", None), asyncio.get_running_loop().create_future())


def test_a_deadline_counts_while_nothing_large_is_written() -> None:
    async def story() -> None:
        pending = waiting()
        Standstill(DEADLINE_SECONDS).expire(pending)
        with pytest.raises(ServiceUnavailable):
            await pending.outcome

    on_a_jumping_clock(story())


def test_a_deadline_that_passes_during_a_large_append_begins_again_after_it() -> None:
    async def story() -> None:
        standstill, pending = Standstill(DEADLINE_SECONDS), waiting()
        now = asyncio.get_running_loop().time
        async with standstill.large():
            standstill.expire(pending)
            await asyncio.sleep(10 * DEADLINE_SECONDS)
            assert not pending.outcome.done()
        ended = now()
        with pytest.raises(ServiceUnavailable):
            await pending.outcome
        assert now() - ended == pytest.approx(DEADLINE_SECONDS)

    on_a_jumping_clock(story())


def test_a_large_batch_waits_for_those_that_have_begun_and_others_for_it() -> None:
    async def story() -> None:
        standstill, told = Standstill(DEADLINE_SECONDS), list[str]()

        async def large(name: str) -> None:
            async with standstill.large():
                told.append(f"{name} begins")
                await asyncio.sleep(1)
                told.append(f"{name} ends")

        async def another() -> None:
            await standstill.over()
            told.append("another begins")

        async with asyncio.TaskGroup() as group:
            with standstill.ordinary():
                group.create_task(large("first"))
                await asyncio.sleep(1)
                group.create_task(another())
                await asyncio.sleep(1)
                told.append("ordinary ends")
        assert told == ["ordinary ends", "first begins", "first ends", "another begins"]

    on_a_jumping_clock(story())
