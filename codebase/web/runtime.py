"""What the services of one process share: the settings, and the resources that exist once."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TypeVar

from aiohttp import ClientSession

from codebase.engine.commands.bus import CommandBus
from codebase.engine.context import Context
from codebase.foundation.http_session import http_session
from codebase.foundation.settings import Settings, extended

Kind = TypeVar("Kind", bound=Settings)

AFTER_DRAIN_SECONDS = 1.5
"""For all workers of the process together, once HTTP has drained, which takes up to 8 s: whoever
asked us to stop, such as `docker stop`, kills after 10 s."""


class Runtime:
    """Opens each shared resource when the first service asks for it.

    Args:
        settings: of this process.
        contexts: every one that the system has.
        stack: closes what was opened, in reverse order.
    """

    def __init__(
        self, settings: Settings, contexts: Sequence[Context], stack: AsyncExitStack
    ) -> None:
        self.settings = settings
        self.contexts = contexts
        self._stack = stack
        self._command_bus: CommandBus | None = None
        self._http_session: ClientSession | None = None
        self._stop_at: float | None = None

    @classmethod
    @asynccontextmanager
    async def open(
        cls, settings: Settings, contexts: Sequence[Context] = ()
    ) -> AsyncIterator[Runtime]:
        """A runtime; on leaving, everything that was opened through it is closed."""
        async with AsyncExitStack() as stack:
            yield cls(settings, contexts, stack)

    def settings_as(self, kind: type[Kind]) -> Kind:
        """The settings of this process, with those that a context has of its own.

        Raises:
            ConfigurationError: names every variable that is wrong.
        """
        return extended(self.settings, kind)

    async def command_bus(self) -> CommandBus:
        """The one command bus of this process."""
        if self._command_bus is None:
            opening = CommandBus.open(self.settings)
            self._command_bus = await self._stack.enter_async_context(opening)
        return self._command_bus

    async def http_session(self) -> ClientSession:
        """The one session of this process for calls to other services."""
        if self._http_session is None:
            self._http_session = await self._stack.enter_async_context(http_session())
        return self._http_session

    def seconds_to_stop(self) -> float:
        """What is left of the time that workers have for their end; the first to ask starts it."""
        if self._stop_at is None:
            self._stop_at = time.monotonic() + AFTER_DRAIN_SECONDS
        return max(0.0, self._stop_at - time.monotonic())
