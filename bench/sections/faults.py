"""What breaks systems like this one under their own weight: each is provoked, and counted."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import psutil
import uvloop
from psycopg import Connection

from bench import orders, people
from bench.asking import Asker, fetch, status_of
from bench.companies import fill_read_model, found_large_company
from bench.embedded import processor_seconds
from bench.lab import Lab, as_owner, changed
from bench.measure import BenchError
from bench.report import Result, at_least, at_most
from codebase.engine.commands.bus import CommandBus
from codebase.engine.commands.lane import WRITERS_PER_LANE
from codebase.engine.log.claims import hold_claims
from codebase.foundation.errors import ServiceUnavailable
from codebase.foundation.postgres import connect_async
from codebase.foundation.settings import Settings
from codebase.model.accounts.account import agents_of

CALLERS = 32

LOCKED_SECONDS = 4.0
DATABASE_DEADLINE_SECONDS = 1.0
COMMAND_DEADLINE_SECONDS = 1.5
LOOK_SECONDS = 0.02

CLOSERS = 16
CLOSED_AGENTS = 4
CLOSING_SECONDS = 4.0

COMPANY = 100_000
REPORTED = 50_000
REPORTS = 32
REPORT_SECONDS = 8.0
MIB = 2**20

HELD_SECONDS = 3.0
HOLD_SECONDS = 60.0
"""Longer than anybody waits."""

LOCK_HEAD = "SELECT FROM log_head FOR UPDATE"
COUNT_WAITING = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock'
"""
COUNT_WRITTEN = "SELECT count(DISTINCT stream_id) FROM event WHERE stream_id = ANY (%(streams)s)"
COUNT_DEADLOCKS = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"


def measure(lab: Lab) -> Iterator[Result]:
    """A locked head, closings in turn with creations, a large account, a claim that is held."""
    yield from _locked_head(lab)
    yield from _closings(lab)
    yield from _large_account(lab)
    yield from _reports(lab)
    yield from _claimers(lab)


def _with_bus(settings: Settings, story: Callable[[CommandBus], Awaitable[Any]]) -> Any:  # noqa: ANN401
    async def opened() -> Any:  # noqa: ANN401 - what the story comes to
        async with CommandBus.open(settings) as bus:
            return await story(bus)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(opened())


# Somebody holds the lock of the head


@dataclass
class Locked:
    """What became of commands while somebody held the lock of the head."""

    unanswered: list[UUID] = field(default_factory=list)
    """The streams of those that were answered that nothing is certain, or no."""
    most_waiting: int = 0


def _locked_head(lab: Lab) -> Iterator[Result]:
    settings = changed(
        lab.stores("locked"),
        database_deadline_seconds=DATABASE_DEADLINE_SECONDS,
        command_deadline_seconds=COMMAND_DEADLINE_SECONDS,
    )
    seconds = lab.effort.seconds(LOCKED_SECONDS)
    with as_owner(settings, "write_model") as watcher:
        seen = _with_bus(settings, lambda bus: _send_while_locked(bus, settings, watcher, seconds))
        [(written,)] = watcher.execute(COUNT_WRITTEN, {"streams": seen.unanswered}).fetchall()
    name = f"head locked for {LOCKED_SECONDS:.0f} s, {CALLERS} callers"
    yield Result(
        name=f"{name}: backends that wait, at most",
        value=seen.most_waiting,
        unit="",
        target=at_most(WRITERS_PER_LANE),
    )
    yield Result(name="  beside it: commands answered 503", value=len(seen.unanswered), unit="")
    yield Result(
        name=f"{name}: written after they were answered 503",
        value=written,
        unit="",
        target=at_most(0),
    )


async def _send_while_locked(
    bus: CommandBus, settings: Settings, watcher: Connection[Any], locked_seconds: float
) -> Locked:
    seen = Locked()
    with suppress(ServiceUnavailable):
        # Connections are made and plans are ready.
        await bus.execute(orders.submission())
    locked = asyncio.Event()
    locked.set()

    async def caller() -> None:
        while locked.is_set():
            order = orders.submission()
            try:
                await bus.execute(order)
            except ServiceUnavailable:
                seen.unanswered.append(order.stream_id)

    with as_owner(settings, "write_model") as holder, holder.transaction():
        holder.execute(LOCK_HEAD)
        callers = [asyncio.create_task(caller()) for _ in range(CALLERS)]
        until = time.monotonic() + locked_seconds
        while time.monotonic() < until or not seen.unanswered:
            await asyncio.sleep(LOOK_SECONDS)
            [(waiting,)] = watcher.execute(COUNT_WAITING).fetchall()
            seen.most_waiting = max(seen.most_waiting, waiting)
    # What is written late is written now; the bus writes what it has accepted before it is closed.
    locked.clear()
    await asyncio.gather(*callers)
    return seen


# Closings and creations on four partitions


def _closings(lab: Lab) -> Iterator[Result]:
    settings = lab.stores("closings", partitions=4)
    seconds = lab.effort.seconds(CLOSING_SECONDS)
    closed = _with_bus(settings, lambda bus: _close_for_a_while(bus, seconds))
    with as_owner(settings, "write_model") as owner:
        [(deadlocks,)] = owner.execute(COUNT_DEADLOCKS).fetchall()
    name = f"accounts opened, given {CLOSED_AGENTS} agents and closed, four partitions"
    yield Result(name=name, value=closed / seconds, unit="/s")
    yield Result(name=f"{name}: deadlocks", value=deadlocks, unit="", target=at_most(0))


async def _close_for_a_while(bus: CommandBus, seconds: float) -> int:
    closed = 0
    until = time.monotonic() + seconds

    async def closer() -> None:
        nonlocal closed
        while time.monotonic() < until:
            account = people.opening()
            await bus.execute(account)
            agents = [people.creating(account.stream_id) for _ in range(CLOSED_AGENTS)]
            await asyncio.gather(*map(bus.execute, agents))
            await bus.execute(people.closing(account.stream_id))
            closed += 1

    await asyncio.gather(*(closer() for _ in range(CLOSERS)))
    return closed


# An account with very many agents


def _large_account(lab: Lab) -> Iterator[Result]:
    settings = lab.stores("large_account")
    account_id = found_large_company(settings, lab.effort.count(COMPANY))
    fill_read_model(settings, account_id, agents=1)
    service = lab.serve(settings, "create_account", "fetch_accounts")
    health = Asker(f"{service}/healthz")
    reads = Asker(f"{service}/accounts/{account_id}")
    with health.asking(), reads.asking():
        started = time.perf_counter()
        # More than a hundred thousand agents should take; so that nobody waits for ever.
        status = status_of(f"{service}/accounts/{account_id}", "DELETE", deadline_seconds=300)
        closing_seconds = time.perf_counter() - started
    name = f"an account of {COMPANY:,} agents is closed"
    is_closed = status == 202  # noqa: PLR2004 - accepted
    yield Result(name=f"{name}: 1 is yes", value=int(is_closed), unit="", target=at_least(1))
    yield Result(name="  until it is answered", value=closing_seconds, unit="s")
    for what, asker in (("/healthz", health), ("a read", reads)):
        yield Result(
            name=f"  the longest that {what} of the same process took meanwhile",
            value=1000 * max(asker.seconds),
            unit="ms",
        )


def _reports(lab: Lab) -> Iterator[Result]:
    settings = lab.stores("reports")
    account_id = UUID(int=1)
    fill_read_model(settings, account_id, agents=lab.effort.count(REPORTED))
    service = lab.serve(settings, "fetch_accounts")
    process = lab.newest_service()
    before = process.memory_info().rss
    most = before
    with _reading_reports(service, account_id, lab.effort.seconds(REPORT_SECONDS)) as readers:
        while any(reader.is_alive() for reader in readers):
            most = max(most, process.memory_info().rss)
            time.sleep(LOOK_SECONDS)
    yield Result(
        name=f"{REPORTS} reports of {REPORTED:,} agents at once: memory of the process, at most",
        value=most / MIB,
        unit="MB",
    )
    yield Result(name="  beside it: before", value=before / MIB, unit="MB")


@contextmanager
def _reading_reports(
    service: str, account_id: UUID, seconds: float
) -> Iterator[Sequence[threading.Thread]]:
    """Readers of a report each; they stop after so many seconds, in the middle if need be."""
    address = f"{service}/accounts/generate_company_report/{account_id}"
    readers = [
        threading.Thread(target=fetch, args=(address, "POST"), kwargs={"seconds": seconds})
        for _ in range(REPORTS)
    ]
    for reader in readers:
        reader.start()
    try:
        yield readers
    finally:
        for reader in readers:
            reader.join()


# A kind of claim that somebody holds


def _claimers(lab: Lab) -> Iterator[Result]:
    seconds = lab.effort.seconds(HELD_SECONDS)
    settings = changed(lab.stores("claimers"), command_deadline_seconds=seconds)
    account_id = people.found_company(settings, []).account_id
    with as_owner(settings, "write_model") as owner:
        server = psutil.Process(owner.info.backend_pid).parent()
    assert server is not None  # noqa: S101 - a backend has one
    kind = agents_of(account_id)

    async def wait(bus: CommandBus) -> tuple[float, float]:
        log = await connect_async(settings.required("write_model_url"), "bench")
        async with log:
            await hold_claims(log, [kind], HOLD_SECONDS)
        ours, servers = time.process_time(), _processor_seconds(server)
        agents = [bus.execute(people.creating(account_id)) for _ in range(CALLERS)]
        answers = await asyncio.gather(*agents, return_exceptions=True)
        if not all(isinstance(answer, ServiceUnavailable) for answer in answers):
            raise BenchError("an agent was created although its kind of claim was held")
        return time.process_time() - ours, _processor_seconds(server) - servers

    ours, servers = _with_bus(settings, wait)
    name = f"processor time while {CALLERS} claimers wait for a kind that is held"
    yield Result(name=name, value=100 * (ours + servers) / seconds, unit="% core")
    yield Result(name="  of it Postgres", value=100 * servers / seconds, unit="% core")


def _processor_seconds(server: psutil.Process) -> float:
    """Of a cluster: all of its processes that are there."""
    return sum(map(processor_seconds, server.children()))
