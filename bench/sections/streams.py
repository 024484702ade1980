"""Commands on a stream that has become long, beside those on short ones."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack
from itertools import islice
from uuid import UUID, uuid4

import uvloop
from pydantic_core import to_json

from bench.lab import Lab
from bench.measure import alternate
from bench.report import Result, at_most
from codebase.engine.commands.bus import CommandBus
from codebase.engine.commands.fingerprint import Content
from codebase.engine.commands.submission import Submission
from codebase.engine.log.appending import append
from codebase.engine.log.codec import encode
from codebase.engine.log.events import NewEvent
from codebase.engine.log.identifiers import new_event_id
from codebase.foundation.postgres import connect_async
from codebase.foundation.settings import Settings
from codebase.model.accounts.account import Region
from codebase.model.accounts.agent import (
    AGENT,
    AgentBlocked,
    AgentCreated,
    AgentUnblocked,
    BlockAgent,
    Event,
    UnblockAgent,
)
from codebase.model.actor import Actor

LONG, SHORT = 20_000, 20
ROUNDS = 7
AGENTS_PER_RUN = 50
"""Each is unblocked and blocked again; a short stream is used once, so that it stays short."""
EVENTS_PER_APPEND = 1_000
CLIENT = Actor("local")


def measure(lab: Lab) -> Iterator[Result]:
    """One command at a time on a stream of 20,000 events, and on streams of 20."""
    settings = lab.stores("streams")
    long, short = uuid4(), [uuid4() for _ in range(AGENTS_PER_RUN * (ROUNDS + 1))]
    unused = iter(short)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_fill(settings, {long: LONG} | dict.fromkeys(short, SHORT)))
        stack = AsyncExitStack()
        bus = runner.run(stack.enter_async_context(CommandBus.open(settings)))

        def seconds_each(agents: Iterator[UUID]) -> float:
            return runner.run(_seconds_each(bus, agents))

        # Connections make up their minds about their plans in the first few commands.
        seconds_each(islice(unused, AGENTS_PER_RUN))
        first = 2 * seconds_each(iter([long]))
        numbers = alternate(
            ROUNDS,
            {
                "long": lambda: seconds_each(iter([long] * AGENTS_PER_RUN)),
                "short": lambda: seconds_each(islice(unused, AGENTS_PER_RUN)),
            },
        )
        runner.run(stack.aclose())
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
        await bus.execute(_submission(agent_id, UnblockAgent))
        await bus.execute(_submission(agent_id, BlockAgent))
        commands += 2
    return (time.perf_counter() - started) / commands


def _submission(agent_id: UUID, command: type[BlockAgent | UnblockAgent]) -> Submission:
    key = str(uuid4())
    return Submission(
        aggregate=AGENT,
        stream_id=agent_id,
        command=command(agent_id=agent_id, actor=CLIENT),
        idempotence_key=key,
        content=Content(key.encode()),
        actor=CLIENT,
        command_id=uuid4().hex,
    )


async def _fill(settings: Settings, lengths: Mapping[UUID, int]) -> None:
    """Give agents as many events: created, then blocked and unblocked in turn."""
    events = [
        (agent_id, version) for agent_id, length in lengths.items() for version in range(length)
    ]
    async with await connect_async(settings.required("write_model_url"), "bench") as log:
        for page in range(0, len(events), EVENTS_PER_APPEND):
            batch = events[page : page + EVENTS_PER_APPEND]
            await append(log, [_stored(agent_id, version + 1) for agent_id, version in batch])


def _stored(agent_id: UUID, version: int) -> NewEvent:
    event = _event(agent_id, version)
    meta = {"event_id": new_event_id(), "causation_id": new_event_id(), "actor": CLIENT.name}
    return NewEvent(
        unit=0,
        partition=0,
        stream_id=agent_id,
        category=AGENT.category,
        version=version,
        type=type(event).__name__,
        idempotence_key=f"key {version}",
        data=encode(event),
        meta=to_json(meta | {"fingerprint": "none"}).decode(),
        guards=(),
    )


def _event(agent_id: UUID, version: int) -> Event:
    if version == 1:
        return AgentCreated(
            agent_id=agent_id,
            account_id=agent_id,
            client=CLIENT.name,
            name="Ada",
            email=f"{agent_id}@bench.example",
            region=Region.EMEA,
            vip=False,
        )
    kind = AgentUnblocked if version % 2 else AgentBlocked
    return kind(
        agent_id=agent_id,
        account_id=agent_id,
        client=CLIENT.name,
        region=Region.EMEA,
        vip=False,
        reason=None,
    )
