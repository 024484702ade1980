"""A reaction at work: the workers that read the log, and the one that acts."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

from codebase.engine.projections.projector import projector_team
from codebase.engine.reactions.dispatcher import Dispatcher
from codebase.engine.reactions.reaction import Reaction
from codebase.engine.reactions.reading import projector_of
from codebase.engine.reactions.target import Target
from codebase.engine.reactions.way import Way
from codebase.foundation.settings import Settings
from codebase.foundation.worker import Team, Worker


class ReactionTeam:
    """Both halves of a reaction in one process; made on the event loop that targets are called on.

    Args:
        settings: addresses, partitions, bounds.
        reaction: what events cause.
        targets: those that it sends to, by name.
        ways: to targets, by name, where it is to be another one than others have.
    """

    def __init__(
        self,
        settings: Settings,
        reaction: Reaction,
        targets: Mapping[str, Target],
        ways: Mapping[str, Way] | None = None,
    ) -> None:
        stop, loop = threading.Event(), asyncio.get_running_loop()
        self._dispatcher = Dispatcher(reaction, targets, settings, loop, stop, ways=ways)
        acting = Worker(
            f"{reaction.name} dispatcher",
            self._dispatcher.run,
            stop=stop,
            wake=self._dispatcher.wake,
        )
        self._acting = Team([acting], [self._dispatcher.what_is_missing])
        reading = projector_of(
            reaction, recorded=self._dispatcher.wake, errands=self._dispatcher.errands
        )
        self._reading = projector_team(settings, reading)

    @asynccontextmanager
    async def at_work(self, seconds_to_stop: Callable[[], float]) -> AsyncIterator[None]:
        """Started on entering; on leaving, reading ends first, then what is on its way.

        Args:
            seconds_to_stop: how long stopping may take, asked when it begins.
        """
        async with self._acting.at_work(seconds_to_stop), self._reading.at_work(seconds_to_stop):
            yield

    async def problem(self) -> str | None:
        """The first thing that keeps it from working, or None: a readiness check."""
        return await self._reading.problem() or await self._acting.problem()
