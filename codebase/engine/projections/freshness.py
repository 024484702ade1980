"""Waiting until a read model has seen what somebody wrote."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import psycopg
from psycopg import AsyncConnection

from codebase.foundation.postgres import connect_async, what_it_does
from codebase.foundation.standing import Standing

READ_CHECKPOINTS = """
    SELECT partition, position FROM projection_checkpoint WHERE projector = %(projector)s
"""

POLL_SECONDS = 0.003
RETRY_SECONDS = 0.1
LOOK_DEADLINE_SECONDS = 2.0


class Freshness:
    """Knows how far a projector is, and asks only while somebody waits.

    However many wait, one poller asks for all of them. Close it when the service ends.

    Args:
        url: of the query services' role, at the server that the queries read from: a replica may
            be behind its primary.
        projector: whose checkpoints count.
    """

    def __init__(self, url: str, projector: str) -> None:
        self._url = url
        self._projector = projector
        self._standing = Standing("read_model", "tell checkpoints")
        self._known: dict[int, int] = {}
        self._waiting = 0
        self._looked = asyncio.Event()
        self._poller: asyncio.Task[None] | None = None
        self._connection: AsyncConnection[Any] | None = None

    async def covers(self, token_positions: Mapping[int, int], deadline_seconds: float) -> bool:
        """Whether the read model holds everything up to the given positions, in time.

        Args:
            token_positions: partition -> position.
            deadline_seconds: how long it may take to get there.
        """
        if self._covered(token_positions):
            return True
        with suppress(TimeoutError):
            async with asyncio.timeout(deadline_seconds):
                await self._wait_for(lambda: self._covered(token_positions))
        return self._covered(token_positions)

    def observe(self, checkpoints: Mapping[int, int]) -> None:
        """Take over what a query has seen: a server that crashed may have gone back."""
        self._known = dict(checkpoints)

    def _covered(self, token_positions: Mapping[int, int]) -> bool:
        return all(
            self._known.get(partition, 0) >= position
            for partition, position in token_positions.items()
        )

    async def _wait_for(self, condition: Callable[[], bool]) -> None:
        self._waiting += 1
        try:
            while not condition():
                if self._poller is None or self._poller.done():
                    self._poller = asyncio.create_task(self._poll())
                await self._looked.wait()
        finally:
            self._waiting -= 1

    async def _poll(self) -> None:
        """Look until nobody waits; each look wakes everybody who does."""
        while self._waiting:
            try:
                async with asyncio.timeout(LOOK_DEADLINE_SECONDS):
                    await self._look()
                rest = POLL_SECONDS
                self._standing.succeeded()
            except TimeoutError as error:
                rest = await self._give_up("no answer in time", error)
            except psycopg.Error as error:
                rest = await self._give_up(what_it_does(error), error)
            self._looked.set()
            self._looked = asyncio.Event()
            await asyncio.sleep(rest)

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
        self._known = dict(await cursor.fetchall())

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
        await self._disconnect()
