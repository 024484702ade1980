"""A lane: the commands of one partition, and the writers that take them in turn."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from prometheus_client import Gauge

from codebase.engine.commands.apart import LARGE, write_apart
from codebase.engine.commands.fingerprint import Fingerprints
from codebase.engine.commands.log_connection import LogStanding
from codebase.engine.commands.standstill import Standstill
from codebase.engine.commands.stream_reader import StreamReader
from codebase.engine.commands.submission import Pending
from codebase.engine.commands.writer import ROUNDS_MAX, Writer
from codebase.foundation.background import keep_working, let_go
from codebase.foundation.backoff import doubled
from codebase.foundation.settings import Settings

WRITERS_PER_LANE = 2
"""One decides while the other waits for the disk; more would only make smaller batches."""
BATCH_MIN = 16
"""What is less is not worth sharing: an append costs as much as these, however small it is."""
SMALL_BATCHES = 2
"""Of less than that, from all lanes together: one is decided while the other waits for the disk.
The second begins when that many wait, or the first takes long: sooner, both would only be small."""
LONG_SECONDS = 0.01
"""For a small batch, which waits for a lock or for the disk then."""
REST_SECONDS = 0.01
LONGEST_REST_SECONDS = 0.2
"""Before what was overtaken is in line again: at first, and after many tries."""

WAITING = Gauge(
    "orderly_commands_waiting", "Commands that wait for their batch to begin.", ["partition"]
)
WRITING = Gauge(
    "orderly_command_batches_in_progress",
    f"Batches that are being decided or written; {WRITERS_PER_LANE} connections write.",
    ["partition"],
)


def rest_seconds(attempts: int) -> float:
    """How long commands rest that were overtaken in so many attempts: they may be for long."""
    return doubled(REST_SECONDS, attempts // ROUNDS_MAX, LONGEST_REST_SECONDS)


@dataclass(slots=True, eq=False)
class SmallBatch:
    """One that is being written, and whether it has been for long."""

    takes_long: bool = False


class Neighbours:
    """The lanes of one bus, which share batches as long as they have little to write.

    Lanes that are busy write side by side. The others would make an append of every few commands,
    and each would cost as much as one of many: so only some of them write at a time, and they take
    along what waits in those that do not.
    """

    def __init__(self) -> None:
        self._lanes: list[Lane] = []
        self._small: list[SmallBatch] = []

    def join(self, lane: Lane) -> None:
        """One more lane."""
        self._lanes.append(lane)

    @property
    def are_busy(self) -> bool:
        """Whether nobody may begin another small batch."""
        if len(self._small) >= SMALL_BATCHES:
            return True
        waiting = sum(len(lane) for lane in self._lanes if lane.is_small)
        return waiting < BATCH_MIN and any(not batch.takes_long for batch in self._small)

    def take(self, lane: Lane, most: int) -> list[Pending]:
        """A small batch for a lane's writer: in turn from it and from the others that are small."""
        room = min(BATCH_MIN, most)
        first = self._lanes.index(lane)
        small = [each for each in self._lanes[first:] + self._lanes[:first] if each.is_small]
        batch: list[Pending] = []
        while small and len(batch) < room:
            small = [each for each in small if len(each)]
            batch += [each.next() for each in small[: room - len(batch)]]
        return batch

    @contextmanager
    def writing(self) -> Iterator[None]:
        """While a small batch is written."""
        batch = SmallBatch()
        self._small.append(batch)
        timer = asyncio.get_running_loop().call_later(LONG_SECONDS, self._take_long, batch)
        try:
            yield
        finally:
            timer.cancel()
            self._small.remove(batch)
            self._wake()

    def _take_long(self, batch: SmallBatch) -> None:
        batch.takes_long = True
        self._wake()

    def _wake(self) -> None:
        for lane in self._lanes:
            lane.wake()


class Lane:
    """The commands of one partition, and the writers that take them in turn.

    While one writer waits for Postgres the other decides. The lock of the log's head puts their
    batches in order; whoever decided on what the other has changed is told so, and decides again.
    A writer may also take commands of other partitions: a lane is only where they wait.

    Args:
        partition: whose commands these are.
        settings: batch size and the write model's address.
        partitions: how many the log has.
        fingerprints: tell repeats from other commands.
        standing: is told what becomes of the writing.
        neighbours: the lanes of the bus, which this one joins.
        standstill: between this lane and the others, while a large batch is written.
        reader: reads streams, for all writers of the bus.
    """

    def __init__(
        self,
        partition: int,
        settings: Settings,
        partitions: int,
        fingerprints: Fingerprints,
        standing: LogStanding,
        *,
        neighbours: Neighbours,
        standstill: Standstill,
        reader: StreamReader,
    ) -> None:
        self._neighbours = neighbours
        neighbours.join(self)
        self._standstill = standstill
        self._make_writer = partial(Writer, settings, partitions, fingerprints, standing)
        self._make_writer_apart = lambda: self._make_writer(StreamReader(standing))
        self._batch_max = settings.command_batch_max
        self._waiting: deque[Pending] = deque()
        self._arrived = asyncio.Event()
        self._closing = False
        self._resting = 0
        self._writing = 0
        WAITING.labels(partition).set_function(lambda: len(self._waiting) + self._resting)
        WRITING.labels(partition).set_function(lambda: self._writing)
        self._writers = [
            keep_working(
                asyncio.create_task(
                    self._write_for_ever(self._make_writer(reader)),
                    name=f"writer {number} of lane {partition}",
                )
            )
            for number in range(WRITERS_PER_LANE)
        ]

    def __len__(self) -> int:
        """How many commands wait."""
        return len(self._waiting)

    @property
    def is_small(self) -> bool:
        """Whether what waits is less than is worth an append of its own."""
        return len(self._waiting) < BATCH_MIN

    def enqueue(self, pending: Pending) -> None:
        """Put a command in line."""
        self._waiting.append(pending)
        self._arrived.set()

    def next(self) -> Pending:
        """The first command in line, which is not there any more."""
        return self._waiting.popleft()

    def wake(self) -> None:
        """Have the writers look whether they may begin, or are done."""
        if self._waiting or self._closing:
            self._arrived.set()

    async def close(self) -> None:
        """Write what is waiting, then stop."""
        self._closing = True
        self._arrived.set()
        # Of who has failed the log tells; what others have accepted is written all the same.
        await asyncio.gather(*self._writers, return_exceptions=True)
        for writer in self._writers:
            let_go(writer)

    async def _write_for_ever(self, writer: Writer) -> None:
        while self._waiting or self._resting or not self._closing:
            await self._standstill.over()
            if not self._waiting or (self.is_small and self._neighbours.are_busy):
                self._arrived.clear()
                await self._arrived.wait()
                continue
            if self.is_small:
                with self._neighbours.writing():
                    await self._write(writer, self._neighbours.take(self, self._batch_max))
            else:
                await self._write(writer, [self.next() for _ in range(self._fair_share())])
        self._arrived.set()
        await writer.close()

    async def _write(self, writer: Writer, batch: list[Pending]) -> None:
        # Whoever has stopped waiting has been told that nothing is certain.
        wanted = [pending for pending in batch if not pending.outcome.done()]
        self._writing += 1
        overtaken = await self._carry_out(writer, wanted) if wanted else []
        self._writing -= 1
        if overtaken:
            self._resting += 1
            rest = rest_seconds(min(pending.attempts for pending in overtaken))
            asyncio.get_running_loop().call_later(rest, self._return, overtaken)

    async def _carry_out(self, writer: Writer, batch: list[Pending]) -> list[Pending]:
        with self._standstill.ordinary():
            if not await writer.takes_along(batch, LARGE):
                return await writer.write(batch)
        async with self._standstill.large():
            return await write_apart(self._make_writer_apart, batch)

    def _fair_share(self) -> int:
        """How many one writer takes: the other gets some, so that one decides while one writes."""
        idle = WRITERS_PER_LANE - self._writing
        share = max(-(-len(self._waiting) // idle), BATCH_MIN)
        return min(share, len(self._waiting), self._batch_max)

    def _return(self, overtaken: list[Pending]) -> None:
        self._resting -= 1
        self._waiting.extendleft(reversed(overtaken))
        self._arrived.set()
