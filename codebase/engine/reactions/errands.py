"""What is on its way to one target: calls on the event loop, started and counted by a thread."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial

from codebase.engine.reactions.attempt import Attempt, Ended, attempt
from codebase.engine.reactions.breaker import Breaker
from codebase.engine.reactions.figures import ATTEMPTS, BREAKER
from codebase.engine.reactions.taken import Returned, Taken
from codebase.engine.reactions.target import Target
from codebase.foundation.standing import Standing

LEASE_MARGIN_SECONDS = 10.0
"""On top of what an inquiry and an attempt may take: for a process that is busy or paused."""

OURS = "ours"
"""How attempts ended, in metrics, that say nothing of the target."""


class Errands:
    """One target's share of the work.

    The dispatcher's thread sends off what was waiting, and writes down what became of it. It, and
    those that read the log, also send off what they have just written down. The rest happens on the
    loop.

    Args:
        reaction: the name of the reaction that it is done for.
        name: of the target.
        target: who does it.
        most: how many may be on their way together.
        loop: what calls are made on.
        returned: is given every attempt that has ended; called on the loop.
        breaker: leaves the target alone while it does not answer.
        clock: seconds that only ever grow, as the desk's.
    """

    def __init__(
        self,
        reaction: str,
        name: str,
        target: Target,
        *,
        most: int,
        loop: asyncio.AbstractEventLoop,
        returned: Callable[[Taken, Attempt], None],
        breaker: Breaker | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self._target = target
        self._most = most
        self._loop = loop
        self._returned = returned
        self._clock = clock
        self._breaker = breaker or Breaker()
        self._answers_again = False
        self._counting = threading.Lock()
        self._on_their_way = 0
        self._reserved = 0
        self._has_line = True
        self._is_closed = False
        self._tasks: set[asyncio.Task[Attempt]] = set()
        self._standing = Standing(name, f"do what {reaction} asks for")
        ends = [*(ended.value for ended in Ended), OURS]
        self._attempts = {ended: ATTEMPTS.labels(reaction, name, ended) for ended in ends}
        self._breaker_open = BREAKER.labels(reaction, name)
        self._breaker_open.set(0)

    @property
    def lease_seconds(self) -> float:
        """How long something may be away before others look for it."""
        return self._longest_seconds + LEASE_MARGIN_SECONDS

    @property
    def _longest_seconds(self) -> float:
        """What an inquiry and the call after it may take."""
        return 2 * self._target.deadline_seconds

    @property
    def on_their_way(self) -> int:
        """How many have gone, and of what became of them nothing is written down yet."""
        return self._on_their_way

    def lease_ends_at(self) -> float:
        """When a lease that begins now ends."""
        return self._clock() + self.lease_seconds

    def reserve(self) -> int:
        """All the room there is, for what was waiting; each departs or is released."""
        with self._counting:
            room = max(0, self._breaker.room(self._in_use, self._most))
            self._reserved += room
            return room

    def reserve_for_new(self, wanted: int) -> int:
        """Room for so many that wait for nobody, or for some; each departs or is released.

        What waits goes first. Whether a target is back is found out by one that has waited.
        """
        with self._counting:
            if self._has_line or self._is_closed or not self._breaker.is_closed:
                return 0
            granted = max(0, min(wanted, self._most - self._in_use))
            self._reserved += granted
            return granted

    def depart(self, taken: Sequence[Taken]) -> None:
        """Have these on their way, for which there is room reserved."""
        self._go(len(taken))
        self._on_loop(partial(self._spawn, taken))

    def stay(self, taken: Sequence[Taken]) -> None:
        """These do not depart: whether they were written down is not known. If so, it is noted."""
        self._go(len(taken))
        reason = "whether it was written down is not known"
        for each in taken:
            self._returned(each, Attempt(ended=Ended.NOT_SENT, reason=reason, is_ours=True))

    def release(self, count: int) -> None:
        """So many that had room reserved need none."""
        with self._counting:
            self._reserved -= count

    def settled(self) -> None:
        """What became of one that was on its way is written down: there is room for another."""
        with self._counting:
            self._on_their_way -= 1

    def line_up(self, *, is_line: bool) -> None:
        """Whether some wait for room, or may do so: they go before those that are new."""
        self._has_line = is_line

    def close(self) -> None:
        """Nothing new goes any more: the process ends."""
        self._is_closed = True

    def _go(self, count: int) -> None:
        with self._counting:
            self._reserved -= count
            self._on_their_way += count

    @property
    def _in_use(self) -> int:
        return self._on_their_way + self._reserved

    def note(self, taken: Taken, ended: Attempt) -> Returned:
        """One has come back; what that says of the target."""
        self._attempts[OURS if ended.is_ours else ended.ended.value].inc()
        if ended.ended in {Ended.ANSWERED, Ended.LATER}:
            self._answers_again |= not self._breaker.is_closed
            self._breaker.succeeded()
            self._standing.succeeded()
        elif not ended.was_told and not ended.is_ours:
            # Who told what had become of it is there, whatever this one thing does to him.
            self._breaker.failed()
            self._standing.failed(ended.reason or ended.ended.value)
        self._breaker_open.set(0 if self._breaker.is_closed else 1)
        return Returned(taken=taken, attempt=ended, target_answers=self._breaker.is_closed)

    def abandon(self) -> None:
        """Have all that is on its way come back at once, without an answer: the process ends."""
        self._on_loop(self._cancel)

    def answers_again(self) -> bool:
        """Whether the target has begun to answer again since this was asked last."""
        since, self._answers_again = self._answers_again, False
        return since

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
            task = self._loop.create_task(self._attempt(each), name=f"{self.name} {each.sent.key}")
            self._tasks.add(task)
            task.add_done_callback(partial(self._come_back, each))

    def _come_back(self, taken: Taken, task: asyncio.Task[Attempt]) -> None:
        self._tasks.discard(task)
        self._returned(taken, self._stopped(taken) if task.cancelled() else task.result())

    def _stopped(self, taken: Taken) -> Attempt:
        """Whoever comes next asks when the target cannot be at it any more."""
        began_at = taken.ends_at - self.lease_seconds
        longest = self._longest_seconds if taken.in_doubt else self._target.deadline_seconds
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
            ended = Ended.IN_DOUBT if taken.in_doubt else Ended.NOT_SENT
            reason = "this process was too busy to begin"
            return Attempt(ended=ended, reason=reason, is_ours=True)
        return await attempt(self._target, taken.sent, in_doubt=taken.in_doubt)
