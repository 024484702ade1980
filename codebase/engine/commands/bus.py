"""The command bus: group commit of whatever commands are waiting.

Requests that arrive while a batch is being written form the next batch. There is no timer, and no
added latency when idle. Each partition has a lane of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import psycopg

from codebase.engine.commands.fingerprint import Fingerprints
from codebase.engine.commands.lane import Lane, Neighbours
from codebase.engine.commands.log_connection import LogConnection, LogStanding
from codebase.engine.commands.standstill import Standstill
from codebase.engine.commands.stream_reader import StreamReader
from codebase.engine.commands.submission import Outcome, Pending, Submission
from codebase.engine.log.appending import try_to_append
from codebase.engine.log.claims import read_holder, read_holders
from codebase.engine.log.extent import Extent
from codebase.engine.log.identifiers import partition_of
from codebase.foundation.errors import ServiceUnavailable
from codebase.foundation.postgres import trouble
from codebase.foundation.settings import Settings

COUNT_PARTITIONS = "SELECT count(*) FROM log_head"


class CommandBus:
    """Decides commands in batches and appends what they lead to.

    Args:
        settings: the write model's address, batch size, queue length, deadlines; the keys of
            fingerprints.

    Raises:
        ConfigurationError: there is no such address, or no such key.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._standing = LogStanding()
        self._log = LogConnection(settings, self._standing)
        self._trial: asyncio.Task[None] | None = None
        self._fingerprints = Fingerprints.configured(settings)
        self._standstill = Standstill(settings.command_deadline_seconds)
        self._reader = StreamReader(self._standing)
        self._queue_max = settings.share_of(settings.command_queue_max)
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
            if bus._trial is not None:
                await asyncio.gather(bus._trial, return_exceptions=True)
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
        if self._closing or len(lane) >= self._queue_max:
            raise ServiceUnavailable("write_model", "too many commands are waiting")
        loop = asyncio.get_running_loop()
        pending = Pending(submission, loop.create_future())
        lane.enqueue(pending)
        # A timer of the loop: asyncio.timeout costs as much as all the rest of this function.
        deadline = loop.call_later(
            self._settings.command_deadline_seconds, self._standstill.expire, pending
        )
        try:
            outcome = await pending.outcome
        finally:
            deadline.cancel()
            # What is raised knows this frame: with the command that would be a circle, which only
            # the collector takes apart.
            del pending
        self._standing.note(outcome.positions)
        return outcome

    @property
    def extent(self) -> Extent:
        """The log, at least; without a name until there has been a connection to it."""
        return self._standing.extent

    async def extent_for(self, seen: Extent) -> Extent:
        """The log, as far as it has to be known to tell what of `seen` is in it.

        What goes no further than what this process has written itself costs nothing to tell.

        Raises:
            ServiceUnavailable: the log did not answer in time.
        """
        known = self._standing.extent
        is_of_another = known.log_id not in {None, seen.log_id}
        if not is_of_another and known.own(seen) != seen.positions:
            await self._log.do(self._standing.learn)
        return self._standing.extent

    async def holders(self, kind: str) -> list[str]:
        """Every value of `kind` that is claimed at the moment.

        Raises:
            ServiceUnavailable: the log did not answer in time.
        """
        held = await self._log.do(lambda log: read_holders(log, [kind]))
        return [value for value, _ in held[kind]]

    async def holder(self, kind: str, value: str) -> UUID | None:
        """The stream that has claimed `value` of `kind`, if one has at the moment.

        Raises:
            ServiceUnavailable: the log did not answer in time.
        """
        return await self._log.do(lambda log: read_holder(log, kind, value))

    async def ready(self) -> str | None:
        """None when the log answers and takes events, otherwise what is wrong."""
        try:
            await self._count_partitions()
            await self._try_again()
        except (ServiceUnavailable, psycopg.Error) as error:
            return trouble(error)
        return None

    async def _try_again(self) -> None:
        """When the last append was refused, find out whether the next one would be.

        Nobody sends commands to who is not ready, so that no command would find out.
        """
        if self._standing.writing.problem is None:
            return
        if self._trial is None or self._trial.done():
            self._trial = asyncio.create_task(self._append_and_take_back(), name="trying to append")
        # Whoever asks meanwhile shares this one trial.
        await asyncio.shield(self._trial)

    async def _append_and_take_back(self) -> None:
        # A connection of its own: what others ask meanwhile is not part of the transaction.
        log = LogConnection(self._settings, self._standing)
        try:
            await log.do(try_to_append, standing=self._standing.writing)
        finally:
            await log.close()

    async def _open_lanes(self) -> list[Lane]:
        try:
            async with asyncio.timeout(self._settings.command_deadline_seconds):
                partitions = await self._count_partitions()
        except TimeoutError:
            raise ServiceUnavailable("write_model", "no answer in time") from None
        if partitions == 0:
            raise ServiceUnavailable("write_model", "the write model is not migrated yet")
        if not self._lanes:
            neighbours = Neighbours()
            self._lanes += [
                Lane(
                    each,
                    self._settings,
                    partitions,
                    self._fingerprints,
                    self._standing,
                    neighbours=neighbours,
                    standstill=self._standstill,
                    reader=self._reader,
                )
                for each in range(partitions)
            ]
        return self._lanes

    async def _count_partitions(self) -> int:
        cursor = await self._log.do(lambda log: log.execute(COUNT_PARTITIONS))
        row = await cursor.fetchone()
        return int(row[0]) if row else 0
