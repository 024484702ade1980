"""Callers of a command bus, each of whom waits for its answer before it sends the next command."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import uvloop

from codebase.engine.commands.bus import CommandBus
from codebase.engine.commands.submission import Submission
from codebase.foundation.settings import Settings


def executed_per_second(
    settings: Settings, make: Callable[[], Submission], callers: int, seconds: float
) -> float:
    """How many commands a second a new bus executes.

    Args:
        settings: of the log.
        make: the next command; none of them is refused.
        callers: how many at once.
        seconds: for how long, after the first command, which makes connections and plans.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_execute_for_a_while(settings, make, callers, seconds))


async def _execute_for_a_while(
    settings: Settings, make: Callable[[], Submission], callers: int, seconds: float
) -> float:
    async with CommandBus.open(settings) as bus:
        await bus.execute(make())
        done = 0
        started = time.perf_counter()

        async def caller() -> None:
            nonlocal done
            while time.perf_counter() - started < seconds:
                await bus.execute(make())
                done += 1

        await asyncio.gather(*(caller() for _ in range(callers)))
        return done / (time.perf_counter() - started)
