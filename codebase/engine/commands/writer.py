"""Decides a batch of commands and appends what it comes to, on a connection of its own."""

from __future__ import annotations

from time import perf_counter, time_ns
from typing import Any
from uuid import UUID

import psycopg
from prometheus_client import Counter, Histogram
from psycopg import AsyncConnection, errors

from codebase.engine.commands.fingerprint import Fingerprints
from codebase.engine.commands.history import History, history_of
from codebase.engine.commands.round import Again, Round
from codebase.engine.commands.submission import Pending
from codebase.engine.log.appending import Appended, append
from codebase.engine.log.claims import hold_claims, read_holders
from codebase.engine.log.notes import read_notes, write_notes
from codebase.engine.log.reading import read_streams
from codebase.foundation.failpoints import failpoint
from codebase.foundation.observability import telemetry
from codebase.foundation.postgres import DeadlinedConnection, is_about_values, what_it_does
from codebase.foundation.settings import Settings
from codebase.foundation.standing import Standing
from codebase.model.aggregate import Aggregate

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

NOTHING = Appended(recorded=[], refused={})

ROUNDS_MAX = 4
"""A command that is still overtaken after so many rounds makes room for others."""
EXTRA_SECONDS = 0.0005
"""For each stream and event, see `seconds_for`."""


def seconds_for(count: int) -> float:
    """How much longer than one ordinary deadline so many streams or events may take.

    A command that takes a hundred thousand streams along needs its time.
    """
    return EXTRA_SECONDS * count


class LogStanding:
    """What all who append know of the log: whether it answers, and whether it is written to.

    A log may answer whatever it is asked, and yet not take a single event.
    """

    def __init__(self) -> None:
        self.answering = Standing("write_model", "answer")
        self.writing = Standing("write_model", "append")


def log_connection(settings: Settings, standing: LogStanding) -> DeadlinedConnection:
    """A connection to the write model for whoever appends to it."""
    return DeadlinedConnection(
        settings.required("write_model_url"),
        "write_model",
        application="command_bus",
        deadline_seconds=settings.database_deadline_seconds,
        # Acknowledged means durable, whatever the server is configured to do by default.
        options="-c synchronous_commit=on",
        standing=standing.answering,
    )


class Writer:
    """Decides and appends one batch after the other, on a connection of its own.

    Args:
        settings: the write model's address.
        partitions: how many the log has.
        fingerprints: tell repeats from other commands.
        standing: is told what becomes of the writing.
    """

    def __init__(
        self,
        settings: Settings,
        partitions: int,
        fingerprints: Fingerprints,
        standing: LogStanding,
    ) -> None:
        self._partitions = partitions
        self._fingerprints = fingerprints
        self._hold_seconds = settings.command_deadline_seconds
        self._log = log_connection(settings, standing)
        self._standing = standing.writing
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
            this_round = Round(
                work,
                histories,
                self._partitions,
                self._fingerprints,
                one_each=one_each,
                holders=holders,
            )
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
            (submission.stream_id, submission.actor.name, submission.idempotence_key)
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
                append(connection, events),
                extra_seconds=seconds_for(len(events)),
                standing=self._standing,
            )
        except (errors.DeadlockDetected, errors.UniqueViolation):
            # A writer of another partition was faster; nothing was written, so look again.
            return Again(work=this_round.everyone())
        except psycopg.DatabaseError as error:
            if not is_about_values(error):
                self._standing.failed(what_it_does(error), error)
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
            await self._log.in_time(write_notes(connection, notes), standing=self._standing)
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
