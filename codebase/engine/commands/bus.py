"""The command bus: group commit of whatever commands are waiting.

Requests that arrive while a batch is being written form the next batch. There is no timer, and no
added latency when idle. Each partition has a lane of its own.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import perf_counter, time_ns
from typing import Any
from uuid import UUID

import psycopg
from prometheus_client import Counter, Gauge, Histogram
from psycopg import AsyncConnection, errors

from codebase.engine.commands.round import (
    Again,
    History,
    Outcome,
    Pending,
    Round,
    Submission,
    history_of,
)
from codebase.engine.log.appending import Appended, append
from codebase.engine.log.claims import hold_claims, read_holders
from codebase.engine.log.identifiers import partition_of
from codebase.engine.log.notes import read_notes, write_notes
from codebase.engine.log.reading import read_streams
from codebase.foundation.errors import ServiceUnavailable
from codebase.foundation.failpoints import failpoint
from codebase.foundation.observability import telemetry
from codebase.foundation.postgres import DeadlinedConnection, trouble
from codebase.foundation.settings import Settings
from codebase.model.aggregate import Aggregate

WRITERS_PER_LANE = 2
"""One decides while the other waits for the disk; more would only make smaller batches."""

BATCH_SIZE = Histogram(
    "orderly_command_batch_size",
    "Commands per group commit.",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024),
)
APPEND_SECONDS = Histogram(
    "orderly_append_seconds",
    "Time of one append, as the command service sees it.",
    buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 5),
)
DECIDED_AGAIN = Counter(
    "orderly_commands_decided_again_total",
    "Commands that had to be decided again on fresh state.",
)
WAITING = Gauge(
    "orderly_commands_waiting", "Commands that wait for their batch to begin.", ["partition"]
)
WRITING = Gauge(
    "orderly_command_batches_in_progress",
    f"Batches that are being decided or written; {WRITERS_PER_LANE} connections write.",
    ["partition"],
)

COUNT_PARTITIONS = "SELECT count(*) FROM log_head"

NOTHING = Appended(recorded=[], refused={})

ROUNDS_MAX = 4
"""A command that is still overtaken after so many rounds makes room for others."""
EXTRA_SECONDS = 0.0005
"""For each stream and event, see `seconds_for`."""
REST_SECONDS = 0.01
"""Before it is in line again, until its deadline."""


def seconds_for(count: int) -> float:
    """How much longer than one ordinary deadline so many streams or events may take.

    A command that takes a hundred thousand streams along needs its time.
    """
    return EXTRA_SECONDS * count


def _log_connection(settings: Settings) -> DeadlinedConnection:
    return DeadlinedConnection(
        settings.required("write_model_url"),
        "write_model",
        application="command_bus",
        deadline_seconds=settings.database_deadline_seconds,
        # Acknowledged means durable, whatever the server is configured to do by default.
        options="-c synchronous_commit=on",
    )


class Writer:
    """Decides and appends one batch after the other, on a connection of its own.

    Args:
        settings: the write model's address.
        partitions: how many the log has.
    """

    def __init__(self, settings: Settings, partitions: int) -> None:
        self._partitions = partitions
        self._hold_seconds = settings.command_deadline_seconds
        self._log = _log_connection(settings)
        self._traces = telemetry.current()

    async def close(self) -> None:
        """Close the connection."""
        await self._log.close()

    async def write(self, batch: list[Pending]) -> list[Pending]:
        """Answer the commands of a batch; returns those that others have overtaken every time."""
        BATCH_SIZE.observe(len(batch))
        try:
            return await self._rounds(batch)
        except Exception as error:  # noqa: BLE001 - whatever fails a batch must not end the lane
            for pending in batch:
                pending.refuse(error)
            return []

    async def _rounds(self, work: list[Pending]) -> list[Pending]:
        connection = await self._log.get()
        one_each: set[UUID] = set()
        for _ in range(ROUNDS_MAX):
            holders = await self._read_holders(connection, work)
            wanted = _streams_to_read(work, holders)
            histories = await self._read(connection, work, wanted) if wanted else {}
            this_round = Round(work, histories, self._partitions, one_each, holders)
            again = await self._append(connection, this_round)
            if not again.work:
                return []
            DECIDED_AGAIN.inc(len(again.work))
            work, one_each = again.work, again.one_each
            for pending in work:
                pending.attempts += 1
        return work

    async def _read_holders(
        self, connection: AsyncConnection[Any], work: list[Pending]
    ) -> dict[str, list[UUID]]:
        kinds = {p.submission.along.kind for p in work if p.submission.along}
        if not kinds:
            return {}
        overtaken = {p.submission.along.kind for p in work if p.submission.along and p.attempts}
        if overtaken:
            holding = hold_claims(connection, sorted(overtaken), self._hold_seconds)
            await self._log.in_time(holding)
        held = await self._log.in_time(read_holders(connection, sorted(kinds)))
        return {kind: [stream_id for _, stream_id in claims] for kind, claims in held.items()}

    async def _read(
        self, connection: AsyncConnection[Any], work: list[Pending], wanted: set[UUID]
    ) -> dict[UUID, History]:
        reading = read_streams(connection, list(wanted))
        streams = await self._log.in_time(reading, extra_seconds=seconds_for(len(wanted)))
        aggregates = _aggregates(work)
        histories = {
            stream_id: history_of(recorded, aggregates) for stream_id, recorded in streams.items()
        }
        keys = [
            (submission.stream_id, submission.idempotence_key)
            for submission in (pending.submission for pending in work)
            if submission.idempotence_key is not None and not submission.creates
        ]
        if keys:
            notes = await self._log.in_time(read_notes(connection, keys))
            for stream_id, known in notes.items():
                histories[stream_id].notes = known
        return histories

    async def _append(self, connection: AsyncConnection[Any], this_round: Round) -> Again:
        events = this_round.new_events
        if not events:
            return await self._settle(connection, this_round, NOTHING)
        failpoint("before_append")
        started, begun_at = perf_counter(), time_ns()
        try:
            appended = await self._log.in_time(
                append(connection, events), extra_seconds=seconds_for(len(events))
            )
        except (errors.DeadlockDetected, errors.UniqueViolation):
            # A writer of another partition was faster; nothing was written, so look again.
            return Again(work=this_round.everyone())
        except psycopg.DatabaseError as error:
            return await self._one_by_one(this_round.everyone(), error)
        APPEND_SECONDS.observe(perf_counter() - started)
        if self._traces is not None:
            of = [pending.submission.traceparent for pending in this_round.everyone()]
            self._traces.appended(of, begun_at, commands=len(of), events=len(events))
        failpoint("after_append")
        return await self._settle(connection, this_round, appended)

    async def _settle(
        self, connection: AsyncConnection[Any], this_round: Round, appended: Appended
    ) -> Again:
        notes = this_round.notes(appended)
        if notes:
            await self._log.in_time(write_notes(connection, notes))
        return this_round.settle(appended)

    async def _one_by_one(self, work: list[Pending], error: psycopg.DatabaseError) -> Again:
        """Postgres cannot take the batch as a whole: find whose command it cannot take."""
        if len(work) == 1:
            work[0].refuse(error)
            return Again()
        overtaken = [await self._rounds([pending]) for pending in work]
        return Again(work=[pending for each in overtaken for pending in each])


def _streams_to_read(work: list[Pending], holders: dict[str, list[UUID]]) -> set[UUID]:
    """Whatever the rules will ask for; a stream that is being created is assumed to be empty."""
    wanted = {stream_id for held in holders.values() for stream_id in held}
    for pending in work:
        submission = pending.submission
        if pending.attempts or not submission.creates:
            wanted.add(submission.stream_id)
        if submission.given:
            wanted.add(submission.given.stream_id)
    return wanted


def _aggregates(work: list[Pending]) -> dict[str, Aggregate[Any, Any, Any]]:
    """Category -> aggregate, of everything that the commands are about."""
    concerned = {}
    for pending in work:
        submission = pending.submission
        for each in (submission, submission.given, submission.along):
            if each:
                concerned[each.aggregate.category] = each.aggregate
    return concerned


class Lane:
    """The commands of one partition, and the writers that take them in turn.

    While one writer waits for Postgres the other decides. The lock of the log's head puts their
    batches in order; whoever decided on what the other has changed is told so, and decides again.

    Args:
        partition: whose commands these are.
        settings: batch size and the write model's address.
        partitions: how many the log has.
    """

    def __init__(self, partition: int, settings: Settings, partitions: int) -> None:
        self._batch_max = settings.command_batch_max
        self._waiting: deque[Pending] = deque()
        self._arrived = asyncio.Event()
        self._closing = False
        self._resting = 0
        self._writing = 0
        WAITING.labels(partition).set_function(lambda: len(self._waiting) + self._resting)
        WRITING.labels(partition).set_function(lambda: self._writing)
        self._writers = [
            asyncio.create_task(self._write_for_ever(Writer(settings, partitions)))
            for _ in range(WRITERS_PER_LANE)
        ]

    def __len__(self) -> int:
        """How many commands wait."""
        return len(self._waiting)

    def enqueue(self, pending: Pending) -> None:
        """Put a command in line."""
        self._waiting.append(pending)
        self._arrived.set()

    async def close(self) -> None:
        """Write what is waiting, then stop."""
        self._closing = True
        self._arrived.set()
        await asyncio.gather(*self._writers)

    async def _write_for_ever(self, writer: Writer) -> None:
        while self._waiting or self._resting or not self._closing:
            if not self._waiting:
                self._arrived.clear()
                await self._arrived.wait()
                continue
            take = min(len(self._waiting), self._batch_max)
            batch = [self._waiting.popleft() for _ in range(take)]
            # Whoever has stopped waiting has been told that nothing is certain.
            wanted = [pending for pending in batch if not pending.outcome.done()]
            self._writing += 1
            overtaken = await writer.write(wanted) if wanted else []
            self._writing -= 1
            if overtaken:
                self._resting += 1
                asyncio.get_running_loop().call_later(REST_SECONDS, self._return, overtaken)
        self._arrived.set()
        await writer.close()

    def _return(self, overtaken: list[Pending]) -> None:
        self._resting -= 1
        self._waiting.extendleft(reversed(overtaken))
        self._arrived.set()


class CommandBus:
    """Decides commands in batches and appends what they lead to.

    Args:
        settings: the write model's address, batch size, queue length, deadlines.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._log = _log_connection(settings)
        self._lanes: list[Lane] = []
        self._closing = False

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Settings) -> AsyncIterator[CommandBus]:
        """A running bus; on leaving, what was accepted is written before the bus stops."""
        bus = cls(settings)
        try:
            yield bus
        finally:
            bus._closing = True
            for lane in bus._lanes:
                await lane.close()
            await bus._log.close()

    async def execute(self, submission: Submission) -> Outcome:
        """Carry out a command once, or find out that it has been.

        Raises:
            Rejected: a rule said no; nothing was written.
            ServiceUnavailable: the log did not answer in time. The command may have been written:
                the sender repeats it with the same key and gets the answer.
        """
        lanes = self._lanes or await self._open_lanes()
        lane = lanes[partition_of(submission.stream_id, len(lanes))]
        if self._closing or len(lane) >= self._settings.command_queue_max:
            raise ServiceUnavailable("write_model", "too many commands are waiting")
        loop = asyncio.get_running_loop()
        pending = Pending(submission, loop.create_future())
        lane.enqueue(pending)
        # A timer of the loop: asyncio.timeout costs as much as all the rest of this function.
        deadline = loop.call_later(self._settings.command_deadline_seconds, pending.expire)
        try:
            return await pending.outcome
        finally:
            deadline.cancel()

    async def holders(self, kind: str) -> list[str]:
        """Every value of `kind` that is claimed at the moment.

        Raises:
            ServiceUnavailable: the log did not answer in time.
        """
        connection = await self._log.get()
        held = await self._log.in_time(read_holders(connection, [kind]))
        return [value for value, _ in held[kind]]

    async def ready(self) -> str | None:
        """None when the log answers, otherwise what is wrong."""
        try:
            await self._count_partitions()
        except (ServiceUnavailable, psycopg.Error) as error:
            return trouble(error)
        return None

    async def _open_lanes(self) -> list[Lane]:
        try:
            async with asyncio.timeout(self._settings.command_deadline_seconds):
                partitions = await self._count_partitions()
        except TimeoutError:
            raise ServiceUnavailable("write_model", "no answer in time") from None
        if partitions == 0:
            raise ServiceUnavailable("write_model", "the write model is not migrated yet")
        if not self._lanes:
            self._lanes += [Lane(each, self._settings, partitions) for each in range(partitions)]
        return self._lanes

    async def _count_partitions(self) -> int:
        connection = await self._log.get()
        cursor = await self._log.in_time(connection.execute(COUNT_PARTITIONS))
        row = await cursor.fetchone()
        return int(row[0]) if row else 0
