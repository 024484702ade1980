"""One large append, or any number of ordinary ones: what nobody else gets past is waited for.

An append of a hundred thousand events locks the heads of the partitions for seconds. Whoever began
another one meanwhile would be refused by the server's deadline for locks, and whoever stood in line
would be told that nothing is certain, though it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from codebase.engine.commands.submission import Pending


class Standstill:
    """Between the lanes of one bus.

    Args:
        deadline_seconds: of a command; who was in line during a large append has it once more.
    """

    def __init__(self, deadline_seconds: float) -> None:
        self._deadline_seconds = deadline_seconds
        self._turn = asyncio.Lock()
        self._over = asyncio.Event()
        self._over.set()
        self._nobody = asyncio.Event()
        self._nobody.set()
        self._writing = 0
        self._late: list[Pending] = []

    async def over(self) -> None:
        """Wait until no large append is being written."""
        await self._over.wait()

    @contextmanager
    def ordinary(self) -> Iterator[None]:
        """While a batch is written that a large one has to wait for."""
        self._writing += 1
        self._nobody.clear()
        try:
            yield
        finally:
            self._writing -= 1
            if not self._writing:
                self._nobody.set()

    @asynccontextmanager
    async def large(self) -> AsyncIterator[None]:
        """While a large batch is written, and no other one."""
        async with self._turn:
            self._over.clear()
            try:
                await self._nobody.wait()
                yield
            finally:
                self._over.set()
                self._wait_again()

    def expire(self, pending: Pending) -> None:
        """The deadline of a command has passed, and counts unless a large append is the reason."""
        if self._over.is_set():
            pending.expire()
        else:
            self._late.append(pending)

    def _wait_again(self) -> None:
        loop, late = asyncio.get_running_loop(), self._late
        self._late = []
        for pending in late:
            loop.call_later(self._deadline_seconds, self.expire, pending)
