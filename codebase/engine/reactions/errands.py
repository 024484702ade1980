"""What is on its way to one target: calls on the event loop, started and counted by a thread."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial

from codebase.engine.reactions.attempt import Attempt, Ended, attempt
from codebase.engine.reactions.taken import Returned, Taken
from codebase.engine.reactions.target import Repeatable, Target
from codebase.engine.reactions.way import Way

LEASE_MARGIN_SECONDS = 10.0
"""On top of what an inquiry, if there is one, and an attempt may take: for a process that is busy
or paused."""


class Errands:
    """One target's share of the work.

    The dispatcher's thread sends off what was waiting, and writes down what became of it. It, and
    those that read the log, also send off what they have just written down. The rest happens on the
    loop.

    Args:
        way: to the target.
        target: who does it.
        loop: what calls are made on.
        returned: is given everything that comes back, by any thread.
        clock: seconds that only ever grow, as the desk's.
    """

    def __init__(
        self,
        way: Way,
        target: Target,
        *,
        loop: asyncio.AbstractEventLoop,
        returned: Callable[[Returned], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.way = way
        self._target = target
        self._loop = loop
        self._returned = returned
        self._clock = clock
        self._tasks: set[asyncio.Task[Attempt]] = set()

    @property
    def lease_seconds(self) -> float:
        """How long something may be away before others look for it."""
        return self._longest_seconds + LEASE_MARGIN_SECONDS

    @property
    def _longest_seconds(self) -> float:
        """What an inquiry, if there is one, and the call after it may take."""
        calls = 1 if isinstance(self._target, Repeatable) else 2
        return calls * self._target.deadline_seconds

    def lease_ends_at(self) -> float:
        """When a lease that begins now ends."""
        return self._clock() + self.lease_seconds

    def depart(self, taken: Sequence[Taken]) -> None:
        """Have these on their way, for which there is room reserved."""
        self.way.go(len(taken))
        self._on_loop(partial(self._spawn, taken))

    def stay(self, taken: Sequence[Taken]) -> None:
        """These do not depart: whether they were written down is not known. If so, it is noted."""
        self.way.go(len(taken))
        reason = "whether it was written down is not known"
        for each in taken:
            self._give_back(each, Attempt(ended=Ended.NOT_SENT, reason=reason, is_ours=True))

    def abandon(self) -> None:
        """Have all that is on its way come back at once, without an answer: the process ends."""
        self._on_loop(self._cancel)

    def _on_loop(self, what: Callable[[], None]) -> None:
        """Have it done there; a process that ends may have closed it, and then nothing is left."""
        try:
            self._loop.call_soon_threadsafe(what)
        except RuntimeError:
            if not self._loop.is_closed():
                raise

    def _cancel(self) -> None:
        for task in self._tasks:
            task.cancel()

    def _spawn(self, taken: Sequence[Taken]) -> None:
        for each in taken:
            name = f"{self.way.name} {each.number}"
            task = self._loop.create_task(self._attempt(each), name=name)
            self._tasks.add(task)
            task.add_done_callback(partial(self._come_back, each))

    def _come_back(self, taken: Taken, task: asyncio.Task[Attempt]) -> None:
        self._tasks.discard(task)
        self._give_back(taken, self._stopped(taken) if task.cancelled() else task.result())

    def _give_back(self, taken: Taken, ended: Attempt) -> None:
        answers = self.way.came_back(ended)
        self._returned(Returned(taken=taken, attempt=ended, target_answers=answers))

    def _stopped(self, taken: Taken) -> Attempt:
        """Whoever comes next asks when the target cannot be at it any more."""
        began_at = taken.ends_at - self.lease_seconds
        longest = self._longest_seconds if taken.sent.in_doubt else self._target.deadline_seconds
        return Attempt(
            ended=Ended.IN_DOUBT,
            reason="this process had to stop",
            is_ours=True,
            stopped_for=max(0.0, began_at + longest - self._clock()),
        )

    async def _attempt(self, taken: Taken) -> Attempt:
        """Who starts so late that others may have it before he is back does not start."""
        if taken.ends_at - self._clock() < self._longest_seconds:
            # Nobody is to blame; but what was in doubt before still is.
            ended = Ended.IN_DOUBT if taken.sent.in_doubt else Ended.NOT_SENT
            reason = "this process was too busy to begin"
            return Attempt(ended=ended, reason=reason, is_ours=True)
        return await attempt(self._target, taken.sent)
