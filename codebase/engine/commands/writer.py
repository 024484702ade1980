"""Decides a batch of commands and appends what it comes to, on a connection of its own."""

from __future__ import annotations

from functools import partial
from time import perf_counter, time_ns
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
from prometheus_client import Counter, Histogram
from psycopg import AsyncConnection, errors

from codebase.engine.commands.fingerprint import Fingerprints
from codebase.engine.commands.history import History
from codebase.engine.commands.log_connection import LogConnection, LogStanding
from codebase.engine.commands.round import Again, Round
from codebase.engine.commands.stream_reader import StreamReader
from codebase.engine.commands.submission import Pending
from codebase.engine.log.appender import Appender
from codebase.engine.log.appending import Appended
from codebase.engine.log.budgets import move_budget
from codebase.engine.log.claims import are_held, hold_claims, read_holders
from codebase.foundation.errors import ServiceUnavailable
from codebase.foundation.failpoints import failpoint
from codebase.foundation.observability import telemetry
from codebase.foundation.postgres import is_about_values, what_it_does
from codebase.foundation.settings import Settings
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


class _NewConnectionError(Exception):
    """What was decided on may be of another log than the one that is there now."""


class Writer:
    """Decides and appends one batch after the other, on a connection of its own.

    Args:
        settings: the write model's address.
        partitions: how many the log has.
        fingerprints: tell repeats from other commands.
        standing: is told what becomes of the writing.
        reader: reads streams, for all writers of the bus.
    """

    def __init__(
        self,
        settings: Settings,
        partitions: int,
        fingerprints: Fingerprints,
        standing: LogStanding,
        reader: StreamReader,
    ) -> None:
        self._partitions = partitions
        self._fingerprints = fingerprints
        self._hold_seconds = settings.command_deadline_seconds
        self._log = LogConnection(settings, standing)
        self._standing = standing.writing
        self._reader = reader
        self._appender = Appender(settings.command_notes_days)
        self._expects_repeats = False
        self._traces = telemetry.current()

    async def close(self) -> None:
        """Close the connection."""
        await self._log.close()

    async def write(self, batch: list[Pending]) -> list[Pending]:
        """Answer the commands of a batch; returns those that others have overtaken every time."""
        BATCH_SIZE.observe(len(batch))
        try:
            return await self._rounds(batch)
        except ServiceUnavailable as error:
            # It knows the frames that it came through: with the batch, which knows it, that would
            # be a circle, which only the collector takes apart.
            self._refuse(batch, error.with_traceback(None))
        except Exception as error:  # noqa: BLE001 - whatever fails a batch must not end the lane
            self._refuse(batch, error)
        return []

    def _refuse(self, batch: list[Pending], error: Exception) -> None:
        for pending in batch:
            pending.refuse(error)

    async def takes_along(self, batch: list[Pending], count: int) -> bool:
        """Whether the commands of a batch take at least so many streams along."""
        kinds = {p.submission.along.kind for p in batch if p.submission.along}
        if not kinds:
            return False
        try:
            return await self._log.do(lambda log: are_held(log, sorted(kinds), count))
        except (ServiceUnavailable, psycopg.Error):
            # Whoever goes on to write finds out, and tells those concerned.
            return False

    async def _rounds(self, work: list[Pending]) -> list[Pending]:
        """Decide and append until nobody has to go again, or has gone often enough.

        Creations are written without reading first, unless the batch before had some that had been
        sent before, or that a rule refused: then all of them are read at once, and no event is made
        in vain.
        """
        one_each: set[UUID] = set()
        resting: list[Pending] = []
        for _ in range(ROUNDS_MAX):
            holders = await self._read_holders(work)
            wanted = _streams_to_read(work, holders, creations_too=self._expects_repeats)
            connections = self._reader.fresh.connections
            as_left = self._reader.fresh.histories(wanted.as_left)
            histories = dict(as_left)
            if to_read := wanted.read | (wanted.as_left - histories.keys()):
                histories |= await self._read(work, to_read)
            this_round = Round(
                work,
                histories,
                self._partitions,
                self._fingerprints,
                one_each=one_each,
                holders=holders,
            )
            had_repeats = not this_round.is_new_to_log
            if self._reader.fresh.connections == connections:
                this_round.answer_settled()
            again = await self._append(this_round, connections, goes_on=bool(as_left))
            self._expects_repeats = had_repeats or any(
                pending.submission.creates for pending in again.work
            )
            DECIDED_AGAIN.inc(len(again.work) + len(again.resting))
            for pending in (*again.work, *again.resting):
                pending.attempts += 1
            resting += again.resting
            work, one_each = again.work, again.one_each
            if not work:
                break
        return resting + work

    async def _read_holders(self, work: list[Pending]) -> dict[str, list[UUID]]:
        kinds = {p.submission.along.kind for p in work if p.submission.along}
        if not kinds:
            return {}
        overtaken = {p.submission.along.kind for p in work if p.submission.along and p.attempts}
        if overtaken:
            await self._log.do(lambda log: hold_claims(log, sorted(overtaken), self._hold_seconds))
        held = await self._log.do(lambda log: read_holders(log, sorted(kinds)))
        return {kind: [stream_id for _, stream_id in claims] for kind, claims in held.items()}

    async def _read(self, work: list[Pending], wanted: set[UUID]) -> dict[UUID, History]:
        submissions = [pending.submission for pending in work]
        return await self._reader.read(self._log, wanted, submissions, _aggregates(work))

    async def _append(self, this_round: Round, connections: int, *, goes_on: bool) -> Again:
        """Write what a round has decided, and answer.

        Args:
            this_round: the round.
            connections: there have been so many before it was decided.
            goes_on: whether it assumes that streams are as this process left them.
        """

        async def append(log: AsyncConnection[Any]) -> Appended:
            if goes_on and self._reader.fresh.connections != connections:
                raise _NewConnectionError
            return await self._appender.append(log, events, notes)

        events, notes = this_round.new_events, this_round.new_notes
        if not events and not notes:
            return this_round.settle(NOTHING)
        failpoint("before_append")
        started, begun_at = perf_counter(), time_ns()
        try:
            appended = await self._log.do(append, count=len(events), standing=self._standing)
        except (errors.DeadlockDetected, errors.UniqueViolation, _NewConnectionError):
            # A writer of another partition was faster, or this may be another log than the one
            # whose streams are known; nothing was written, so look again.
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
        # First of all: what stands in the log is answered, whatever becomes of the rest.
        again = this_round.settle(appended)
        self._reader.fresh.keep_all(this_round.written(appended), connections)
        for name, partition, wanted in appended.wanted:
            await self._log.do(partial(move_budget, name=name, partition=partition, wanted=wanted))
        return again

    async def _one_by_one(self, work: list[Pending], error: psycopg.DatabaseError) -> Again:
        """Postgres cannot take the batch as a whole: find whose command it cannot take."""
        if len(work) == 1:
            work[0].refuse(error)
            return Again()
        overtaken = [await self._rounds([pending]) for pending in work]
        return Again(work=[pending for each in overtaken for pending in each])


class _Wanted(NamedTuple):
    """Streams to be read, and those of which it does to know how this process left them."""

    read: set[UUID]
    as_left: set[UUID]


def _streams_to_read(
    work: list[Pending], holders: dict[str, list[UUID]], *, creations_too: bool
) -> _Wanted:
    """Whatever the rules will ask for; what is being created is assumed to be empty, as a rule."""
    read = {stream_id for held in holders.values() for stream_id in held}
    as_left, created = set[UUID](), set[UUID]()
    for pending in work:
        submission = pending.submission
        if _goes_on(pending):
            as_left.add(submission.stream_id)
        elif creations_too or pending.attempts or not submission.creates:
            read.add(submission.stream_id)
        else:
            created.add(submission.stream_id)
        if submission.given:
            read.add(submission.given.stream_id)
    # What was created before is found by its key, which stands in the log.
    read |= created & as_left
    return _Wanted(read, as_left - read)


def _goes_on(pending: Pending) -> bool:
    """Whether a command needs to know nothing but the state: it was never sent before."""
    submission = pending.submission
    return not (
        pending.attempts
        or submission.creates
        or submission.idempotence_key is not None
        or submission.along
    )


def _aggregates(work: list[Pending]) -> dict[str, Aggregate[Any, Any, Any]]:
    """Category -> aggregate, of everything that the commands are about."""
    concerned = {}
    for pending in work:
        submission = pending.submission
        for each in (submission, submission.given, submission.along):
            if each:
                concerned[each.aggregate.category] = each.aggregate
    return concerned
