"""A look at the end of the log, for those who read something else and could do without."""

from __future__ import annotations

import asyncio

import psycopg

from codebase.engine.log.extent import Extent, read_extent
from codebase.foundation.errors import ServiceUnavailable
from codebase.foundation.postgres import DeadlinedConnection, what_it_does
from codebase.foundation.standing import Standing

REST_SECONDS = 1.0
"""How long a log that did not answer is not asked again."""


class EndWatch:
    """Tells how far the log goes, unless it is away; close it when the service ends.

    Args:
        url: of a role that may read `log_head` and `log_identity`; None: nobody is asked.
        deadline_seconds: how long a look may take.
    """

    def __init__(self, url: str | None, deadline_seconds: float) -> None:
        self._standing = Standing("write_model", "tell its end")
        self._ask_again_at = 0.0
        self._under_way: asyncio.Task[Extent | None] | None = None
        self._next: asyncio.Task[Extent | None] | None = None
        self._log = url and DeadlinedConnection(
            url,
            "write_model",
            application="log end",
            deadline_seconds=deadline_seconds,
            standing=self._standing,
        )

    async def look(self) -> Extent | None:
        """The log as it is now; None when it does not answer in time, or may not be asked.

        All who ask while a look is under way share the next one, which begins after they came.
        """
        if self._next is None:
            self._next = asyncio.create_task(self._after(self._under_way), name="end of the log")
        return await asyncio.shield(self._next)

    async def _after(self, earlier: asyncio.Task[Extent | None] | None) -> Extent | None:
        if earlier is not None:
            await asyncio.wait([earlier])
        self._under_way, self._next = self._next, None
        return await self._look()

    async def _look(self) -> Extent | None:
        loop = asyncio.get_running_loop()
        if not self._log or loop.time() < self._ask_again_at:
            return None
        try:
            return await self._log.in_time(read_extent(await self._log.get()))
        except ServiceUnavailable:
            pass
        except psycopg.Error as error:
            self._standing.failed(what_it_does(error), error)
        self._ask_again_at = loop.time() + REST_SECONDS
        return None

    async def close(self) -> None:
        """Ask no more, once those who wait have their answer."""
        looks = [look for look in (self._under_way, self._next) if look is not None]
        await asyncio.gather(*looks)
        if self._log:
            await self._log.close()
