"""Callers of a command bus, each of whom waits for its answer before it sends the next command."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager

import uvloop

from codebase.engine.commands.bus import CommandBus
from codebase.engine.commands.submission import Submission
from codebase.foundation.settings import Settings

WARM_UP_COMMANDS = 50
"""For each caller: every connection of the bus has been made by then, and made up its plans."""

Execute = Callable[[float], float]
"""How many commands a second a bus executes, for so many seconds."""


@contextmanager
def open_bus(settings: Settings) -> Iterator[tuple[CommandBus, asyncio.Runner]]:
    """A bus that stays open, as that of a service does, and the loop that it works on."""
    stack = AsyncExitStack()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        bus = runner.run(stack.enter_async_context(CommandBus.open(settings)))
        try:
            yield bus, runner
        finally:
            runner.run(stack.aclose())


@contextmanager
def callers_of_one_bus(
    settings: Settings, make: Callable[[], Submission], callers: int, *, warm_up: bool = True
) -> Iterator[Execute]:
    """Callers of a bus that stays open.

    Args:
        settings: of the log.
        make: the next command; none of them is refused.
        callers: how many at once.
        warm_up: whether they have all been there before anything is measured.
    """
    with open_bus(settings) as (bus, runner):
        for _ in range(WARM_UP_COMMANDS if warm_up else 1):
            runner.run(_execute_for_a_while(bus, make, callers, 0))
        yield lambda seconds: runner.run(_execute_for_a_while(bus, make, callers, seconds))


async def _execute_for_a_while(
    bus: CommandBus, make: Callable[[], Submission], callers: int, seconds: float
) -> float:
    done = 0
    started = time.perf_counter()

    async def caller() -> None:
        nonlocal done
        while True:
            await bus.execute(make())
            done += 1
            if time.perf_counter() - started >= seconds:
                return

    await asyncio.gather(*(caller() for _ in range(callers)))
    return done / (time.perf_counter() - started)
