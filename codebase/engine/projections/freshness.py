"""Waiting until a read model has seen what somebody wrote."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import psycopg
from psycopg import AsyncConnection

from codebase.engine.log.end_watch import EndWatch
from codebase.engine.log.extent import Extent
from codebase.engine.projections.waiting_room import Waiter, WaitingRoom
from codebase.foundation.background import tell_of_failure
from codebase.foundation.postgres import connect_async, what_it_does
from codebase.foundation.standing import Standing

READ_CHECKPOINTS = """
    SELECT partition, position, log_id FROM projection_checkpoint
    WHERE projector = %(projector)s
"""

POLL_SECONDS = 0.003
RETRY_SECONDS = 0.1
LOOK_DEADLINE_SECONDS = 2.0


class Freshness:
    """Knows how far a projector is, and asks only while somebody waits.

    However many wait, one poller asks for all of them, and wakes those who have waited for what it
    found. For those who go on waiting the log is asked, once, whether it goes as far as they think.
    Close it when the service ends.

    Args:
        url: of the query services' role, at the server that the queries read from: a replica may
            be behind its primary.
        projector: whose checkpoints count.
        room: where requests wait.
        log: is asked what is in the log.
    """

    def __init__(self, url: str, projector: str, room: WaitingRoom, log: EndWatch) -> None:
        self._url = url
        self._projector = projector
        self._standing = Standing("read_model", "tell checkpoints")
        self._room = room
        self._log = log
        self._poller: asyncio.Task[None] | None = None
        self._judging: asyncio.Task[None] | None = None
        self._connection: AsyncConnection[Any] | None = None

    @property
    def reached(self) -> Extent:
        """How far the read model was when somebody looked last."""
        return self._room.reached or Extent()

    async def reach(self, seen: Extent, deadline_seconds: float, caller: str) -> Extent | None:
        """Wait until the read model holds what somebody has seen.

        Args:
            seen: positions of a log that has a name.
            deadline_seconds: how long it may take to get there.
            caller: who waits.

        Returns:
            What it holds of `seen`: without what is of another log or beyond the end of this one.
            None: it does not in time.

        Raises:
            TooManyWaitingError: there is no room for one more who waits.
        """
        if self._room.reached is not None and self._room.reached.holds(seen):
            return seen
        waiter = self._room.enter(caller, seen)
        try:
            return await self._arrival(waiter, deadline_seconds)
        finally:
            self._room.leave(waiter)

    async def _arrival(self, waiter: Waiter, deadline_seconds: float) -> Extent | None:
        if self._poller is None or self._poller.done():
            self._poller = asyncio.create_task(self._poll(), name="checkpoints")
            self._poller.add_done_callback(tell_of_failure)
        with suppress(TimeoutError):
            async with asyncio.timeout(deadline_seconds):
                await waiter.arrived
                return waiter.seen
        return None

    def observe(self, reached: Extent) -> None:
        """Take over what a query has seen: a server that crashed may have gone back."""
        self._room.arrive(reached)

    async def log_end(self) -> Extent | None:
        """The log as it is now; None when it cannot be asked."""
        return await self._log.look()

    async def _poll(self) -> None:
        """Look until nobody waits."""
        while len(self._room):
            try:
                async with asyncio.timeout(LOOK_DEADLINE_SECONDS):
                    await self._look()
                rest = POLL_SECONDS
                self._standing.succeeded()
            except TimeoutError as error:
                rest = await self._give_up("no answer in time", error)
            except psycopg.Error as error:
                rest = await self._give_up(what_it_does(error), error)
            self._judge_newcomers()
            await asyncio.sleep(rest)

    def _judge_newcomers(self) -> None:
        """Whoever still waits may be waiting for what never comes.

        In a task of its own, so that a log that is away keeps nobody from hearing of checkpoints.
        """
        if self._judging is None or self._judging.done():
            newcomers = self._room.take_unjudged()
            if newcomers:
                self._judging = asyncio.create_task(self._judge(newcomers), name="end of the log")
                self._judging.add_done_callback(tell_of_failure)

    async def _judge(self, waiters: list[Waiter]) -> None:
        # The look begins after they came, so that it sees whatever they have seen.
        self._room.judge(waiters, await self._log.look())

    async def _give_up(self, problem: str, cause: Exception) -> float:
        self._standing.failed(problem, cause)
        await self._disconnect()
        return RETRY_SECONDS

    async def _look(self) -> None:
        if self._connection is None or self._connection.closed:
            self._connection = await connect_async(self._url, f"{self._projector} checkpoints")
        cursor = self._connection.cursor()
        await cursor.execute(READ_CHECKPOINTS, {"projector": self._projector}, prepare=True)
        # Replaced and not merged: a read model that was restored or emptied has gone back.
        self._room.arrive(extent_of(await cursor.fetchall()))

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                await connection.close()

    async def close(self) -> None:
        """Stop asking; whoever waits goes on waiting until its deadline."""
        if self._poller is not None:
            self._poller.cancel()
            with suppress(asyncio.CancelledError):
                await self._poller
        if self._judging is not None:
            await self._judging
        await self._disconnect()
        await self._log.close()


def extent_of(checkpoints: list[tuple[int, int, str | None]]) -> Extent:
    """How far a projector is, of its rows: partition, position, which log."""
    log_id = next((log_id for _, _, log_id in checkpoints if log_id is not None), None)
    return Extent(log_id, {partition: position for partition, position, _ in checkpoints})
