"""An append while somebody has held a snapshot for very many of them, beside one without."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

from psycopg import AsyncConnection

from bench.lab import Lab
from bench.measure import alternate
from bench.orders import fill_log, new_events
from bench.report import Result, at_most
from codebase.engine.log.appender import Appender
from codebase.foundation.postgres import connect, connect_async
from codebase.foundation.settings import Settings

HELD_FOR = 32_000
EVENTS_PER_BATCH = 1_000
ROUNDS = 7
APPENDS_PER_ROUND = 200

BEGIN = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
LOOK = "SELECT position FROM log_head"


def measure(lab: Lab) -> Iterator[Result]:
    """Two logs of the same length; one of them was written while somebody was looking at it.

    A snapshot keeps the old versions of the rows of its own database only: those of shares of
    budgets, which every append changes.
    """
    held, free = lab.stores("held"), lab.stores("free")
    held_for, per_round = lab.effort.count(HELD_FOR), lab.effort.count(APPENDS_PER_ROUND)
    fill_log(free, held_for)
    with asyncio.Runner() as runner, _snapshot_of(held):
        logs = {
            name: runner.run(connect_async(settings.required("write_model_url"), "bench"))
            for name, settings in (("held", held), ("free", free))
        }
        runner.run(_append(logs["held"], held_for))
        # The first call prepares the statement and plans the function.
        runner.run(_append(logs["free"], per_round))
        numbers = alternate(
            lab.effort.rounds(ROUNDS),
            {
                "held": lambda: runner.run(_append(logs["held"], per_round)),
                "free": lambda: runner.run(_append(logs["free"], per_round)),
            },
        )
        for log in logs.values():
            runner.run(log.close())
    name = f"an append under a snapshot held for {HELD_FOR:,} appends"
    yield Result(name=name, value=numbers.median("held"), unit="ms")
    yield Result(name="  beside it: without", value=numbers.median("free"), unit="ms")
    yield Result(
        name=f"{name} ÷ without",
        value=numbers.ratio("held", "free"),
        unit="ratio",
        target=at_most(1.5),
    )


@contextmanager
def _snapshot_of(settings: Settings) -> Iterator[None]:
    """Somebody looks at the log, and goes on looking at it as it was."""
    with connect(settings.required("write_model_reader_url"), "bench") as reader:
        reader.execute(BEGIN)
        reader.execute(LOOK)
        yield
        reader.execute("COMMIT")


async def _append(log: AsyncConnection, count: int) -> float:
    """Append so many orders, one at a time; milliseconds each."""
    appender, taken = Appender(notes_kept_days=90), 0.0
    for begin in range(0, count, EVENTS_PER_BATCH):
        for order in new_events(min(EVENTS_PER_BATCH, count - begin)):
            started = time.perf_counter()
            await appender.append(log, [order])
            taken += time.perf_counter() - started
    return 1000 * taken / count
