"""Deadlines of whatever waits for Postgres, on a clock that only moves when everybody waits."""

from __future__ import annotations

import asyncio

import pytest

from codebase.engine.commands.writer import seconds_for
from codebase.foundation.errors import ServiceUnavailable
from codebase.foundation.postgres import DeadlinedConnection
from tests.clocks import on_a_jumping_clock


def connection(deadline_seconds: float) -> DeadlinedConnection:
    return DeadlinedConnection(
        "host=nowhere", "write_model", application="test", deadline_seconds=deadline_seconds
    )


async def work(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "done"


def test_work_is_given_up_at_its_deadline_and_not_before() -> None:
    async def story() -> None:
        loop = asyncio.get_running_loop()
        assert await connection(3.0).in_time(work(2.9)) == "done"
        begun = loop.time()
        with pytest.raises(ServiceUnavailable, match="no answer in time"):
            await connection(3.0).in_time(work(3600))
        assert loop.time() - begun == pytest.approx(3.0)

    on_a_jumping_clock(story())


def test_large_work_has_as_much_longer_as_it_is_large() -> None:
    """A hundred thousand agents that go together need more than one ordinary deadline."""

    async def story() -> None:
        extra_seconds = seconds_for(100_000)
        late = connection(3.0)
        assert await late.in_time(work(52.9), extra_seconds=extra_seconds) == "done"
        with pytest.raises(ServiceUnavailable):
            await late.in_time(work(53.1), extra_seconds=extra_seconds)

    on_a_jumping_clock(story())
    assert seconds_for(1) == pytest.approx(0.0005)
