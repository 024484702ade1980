"""The command bus beside a well-known event store, both in one process on the same Postgres."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import uvloop

from bench.eventsourcing_rival import orders_in
from bench.lab import Lab
from bench.measure import alternate
from bench.orders import submission
from bench.report import Result, at_least
from codebase.engine.commands.bus import CommandBus
from codebase.foundation.settings import Settings

CONCURRENT = 32
ROUNDS = 5
RUN_SECONDS = 2.0
RIVAL = f"eventsourcing, {CONCURRENT} threads"


def measure(lab: Lab) -> Iterator[Result]:
    """Both, and how many times more the bus does."""
    settings = lab.stores("bus")
    lab.write.create("eventsourcing")
    with orders_in(lab.write.port, "eventsourcing", CONCURRENT) as rival:
        numbers = alternate(
            ROUNDS,
            {
                "bus": lambda: _appends_per_second(settings),
                "rival": lambda: _calls_per_second(rival.place),
            },
        )
    yield Result(
        name=f"command bus, {CONCURRENT} concurrent", value=numbers.median("bus"), unit="/s"
    )
    yield Result(name=f"  beside it: {RIVAL}", value=numbers.median("rival"), unit="/s")
    yield Result(
        name=f"command bus ÷ {RIVAL}",
        value=numbers.ratio("bus", "rival"),
        unit="ratio",
        target=at_least(15),
    )


def _appends_per_second(settings: Settings) -> float:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_execute_for_a_while(settings))


async def _execute_for_a_while(settings: Settings) -> float:
    async with CommandBus.open(settings) as bus:
        await bus.execute(submission())
        done = 0
        started = time.perf_counter()

        async def sender() -> None:
            nonlocal done
            while time.perf_counter() - started < RUN_SECONDS:
                await bus.execute(submission())
                done += 1

        await asyncio.gather(*(sender() for _ in range(CONCURRENT)))
        return done / (time.perf_counter() - started)


def _calls_per_second(call: Callable[[], None]) -> float:
    started = time.perf_counter()

    def caller() -> int:
        done = 0
        while time.perf_counter() - started < RUN_SECONDS:
            call()
            done += 1
        return done

    with ThreadPoolExecutor(CONCURRENT) as pool:
        done = sum(future.result() for future in [pool.submit(caller) for _ in range(CONCURRENT)])
    return done / (time.perf_counter() - started)
