"""The way to one target: how many may go, how many have gone, and whether it answers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from codebase.engine.reactions.attempt import Attempt, Ended, attempt
from codebase.engine.reactions.breaker import Breaker
from codebase.engine.reactions.figures import ATTEMPTS, BREAKER
from codebase.engine.reactions.reaction import Sent
from codebase.engine.reactions.target import Target
from codebase.foundation.standing import Standing

UNWRITTEN = 3
"""Times as many as may be there may have gone: what became of the others is not written yet. Who is
elsewhere counts nowhere; his room there bounds that."""
OURS = "ours"
"""How attempts ended, in metrics, that say nothing of the target."""


class Way:
    """What is known of a target, and who may go there; used by any thread.

    Args:
        reaction: the name of the reaction that it is asked for.
        name: of the target.
        most: how many may be there together.
        breaker: leaves the target alone while it does not answer.
    """

    def __init__(
        self, reaction: str, name: str, *, most: int, breaker: Breaker | None = None
    ) -> None:
        self.name = name
        self._most = most
        self._breaker = breaker or Breaker()
        self._answers_again = False
        self._counting = threading.Lock()
        self._there = 0
        self._unwritten = 0
        self._reserved = 0
        self._has_line = True
        self._is_closed = False
        self._standing = Standing(name, f"do what {reaction} asks for")
        ends = [*(ended.value for ended in Ended), OURS]
        self._attempts = {ended: ATTEMPTS.labels(reaction, name, ended) for ended in ends}
        self._breaker_open = BREAKER.labels(reaction, name)
        self._breaker_open.set(0)

    @property
    def on_their_way(self) -> int:
        """How many have gone, and of what became of them nothing is written down yet."""
        with self._counting:
            return self._there + self._unwritten

    def reserve(self) -> int:
        """Room for what was waiting; each departs or is released.

        All there is if some do wait. Otherwise half of it: nobody new is to wait for a look that
        finds nothing.
        """
        with self._counting:
            room = self._room if self._has_line else -(-self._room // 2)
            self._reserved += room
            return room

    def reserve_for_new(self, wanted: int) -> int:
        """Room for so many that wait for nobody, or for some; each departs or is released.

        What waits goes first. Whether a target is back is found out by one that has waited.
        """
        with self._counting:
            if self._has_line or self._is_closed or not self._breaker.is_closed:
                return 0
            granted = min(wanted, self._room)
            self._reserved += granted
            return granted

    def release(self, count: int) -> None:
        """So many that had room reserved need none."""
        with self._counting:
            self._reserved -= count

    def go(self, count: int) -> None:
        """So many that had room reserved are on their way."""
        with self._counting:
            self._reserved -= count
            self._there += count

    def came_back(self, ended: Attempt) -> bool:
        """One that had gone is not there any more; whether the target answers at all.

        It leaves room for another, though it is not written down yet what became of it: clients
        wait for whoever needs that room, and nobody waits for what is written.
        """
        answers = self.note(ended)
        with self._counting:
            self._there -= 1
            self._unwritten += 1
        return answers

    def settled(self) -> None:
        """What became of one that came back is written down."""
        with self._counting:
            self._unwritten -= 1

    @contextmanager
    def room_for_one(self) -> Iterator[bool]:
        """Whether there is room for one that goes in the middle of another errand, until left."""
        has_room = bool(self.reserve_for_new(1))
        if has_room:
            self.go(1)
        try:
            yield has_room
        finally:
            if has_room:
                with self._counting:
                    self._there -= 1

    @contextmanager
    def elsewhere(self) -> Iterator[None]:
        """One that was answered here goes aside, and takes up no room here, until left.

        When it comes back, what it was told here is no news any more.
        """
        self._hear(has_answered=True)
        with self._counting:
            self._there -= 1
        try:
            yield
        finally:
            with self._counting:
                self._there += 1

    async def aside(self, target: Target, sent: Sent) -> Attempt:
        """An attempt in the middle of another errand, which has `room_for_one`.

        Nothing is written down of it but what that errand's answer says.
        """
        ended = await attempt(target, sent)
        self.note(ended)
        return ended

    def line_up(self, *, is_line: bool) -> None:
        """Whether some wait for room, or may do so: they go before those that are new."""
        self._has_line = is_line

    def close(self) -> None:
        """Nothing new goes any more: the process ends."""
        self._is_closed = True

    def note(self, ended: Attempt) -> bool:
        """An attempt has ended; whether the target answers at all, as far as that tells."""
        self._attempts[OURS if ended.is_ours else ended.ended.value].inc()
        is_old = ended.answer is not None and not ended.answer.is_news
        # Who told what had become of it is there, whatever this one thing does to him.
        if is_old or ended.was_told or ended.is_ours:
            return self._breaker.is_closed
        has_answered = ended.ended in {Ended.ANSWERED, Ended.LATER}
        return self._hear(has_answered=has_answered, reason=ended.reason or ended.ended.value)

    def _hear(self, *, has_answered: bool, reason: str = "") -> bool:
        with self._counting:
            if has_answered:
                self._answers_again |= not self._breaker.is_closed
                self._breaker.succeeded()
            else:
                self._breaker.failed()
            answers = self._breaker.is_closed
            self._breaker_open.set(0 if answers else 1)
        if has_answered:
            self._standing.succeeded()
        else:
            self._standing.failed(reason)
        return answers

    def answers_again(self) -> bool:
        """Whether the target has begun to answer again since this was asked last."""
        with self._counting:
            since, self._answers_again = self._answers_again, False
            return since

    @property
    def _room(self) -> int:
        in_use = self._there + self._reserved
        room = self._breaker.room(in_use, self._most)
        return max(0, min(room, UNWRITTEN * self._most - in_use - self._unwritten))
