"""Commands on a stream that has become long, beside those on short ones."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import islice
from uuid import UUID

from bench.callers import open_bus
from bench.lab import Lab
from bench.measure import alternate
from bench.people import blocking, found_company, unblocking
from bench.report import Result, at_most
from codebase.engine.commands.bus import CommandBus

LONG, SHORT = 20_000, 20
ROUNDS = 7
AGENTS_PER_RUN = 50
"""Each is unblocked and blocked again; a short stream is used once, so that it stays short."""


def measure(lab: Lab) -> Iterator[Result]:
    """One command at a time on a stream of 20,000 events, and on streams of 20."""
    settings = lab.stores("streams")
    rounds, per_run = lab.effort.rounds(ROUNDS), lab.effort.count(AGENTS_PER_RUN)
    lengths = [lab.effort.count(LONG), *[SHORT] * (per_run * (rounds + 1))]
    long, *short = found_company(settings, lengths).agent_ids
    unused = iter(short)
    with open_bus(settings) as (bus, runner):

        def seconds_each(agents: Iterator[UUID]) -> float:
            return runner.run(_seconds_each(bus, agents))

        # Connections make up their minds about their plans in the first few commands.
        seconds_each(islice(unused, per_run))
        first = 2 * seconds_each(iter([long]))
        numbers = alternate(
            rounds,
            {
                "long": lambda: seconds_each(iter([long] * per_run)),
                "short": lambda: seconds_each(islice(unused, per_run)),
            },
        )
    name = f"command on a stream of {LONG:,} events"
    yield Result(name=name, value=1000 * numbers.median("long"), unit="ms")
    yield Result(
        name=f"  beside it: of {SHORT} events", value=1000 * numbers.median("short"), unit="ms"
    )
    yield Result(name="  the first two of a process", value=1000 * first, unit="ms")
    ratio = numbers.ratio("long", "short")
    yield Result(name=f"{name} ÷ of {SHORT}", value=ratio, unit="ratio", target=at_most(1.3))


async def _seconds_each(bus: CommandBus, agents: Iterator[UUID]) -> float:
    commands = 0
    started = time.perf_counter()
    for agent_id in agents:
        await bus.execute(unblocking(agent_id))
        await bus.execute(blocking(agent_id))
        commands += 2
    return (time.perf_counter() - started) / commands
