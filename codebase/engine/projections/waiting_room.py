"""Those who wait until a read model is as far as they have seen: few, and woken one by one.

What is done when a read model moves is in proportion to those who have waited for just that.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from heapq import heapify, heappop, heappush
from itertools import count

from codebase.engine.log.extent import Extent


class TooManyWaitingError(Exception):
    """There is no room for one more who waits; the text says whose room it is."""


class Waiter:
    """Somebody who waits; `arrived` is done once there is nothing more to wait for.

    Args:
        caller: who it is.
        seen: what the read model has to hold.
    """

    __slots__ = ("_missing", "arrived", "caller", "seen", "ticket")

    ticket: int | None
    """Names the one place where the waiter is in line; None when that is nowhere."""

    def __init__(self, caller: str, seen: Extent) -> None:
        self.caller = caller
        self.arrived: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.ticket = None
        self.see(seen)

    def see(self, seen: Extent) -> None:
        """Wait for this from now on."""
        self.seen = seen
        self._missing = list(seen.positions.items())

    def next_missing(self, reached: Extent | None) -> tuple[int, int] | None:
        """A partition and a position that are still to come; each is asked about once."""
        while self._missing and reached is not None:
            partition, position = self._missing[-1]
            if reached.position(self.seen.log_id, partition) < position:
                break
            self._missing.pop()
        return self._missing[-1] if self._missing else None


Place = tuple[int, int, Waiter]
"""In a line: the position that is waited for, the waiter's ticket, the waiter."""


class WaitingRoom:
    """Lines of waiters, one for each partition of each log, in the order of positions.

    Args:
        most: how many may wait.
        most_per_caller: how many of them may be of one caller.
    """

    def __init__(self, most: int, most_per_caller: int) -> None:
        self.reached: Extent | None = None
        """How far the read model is; None before anybody has looked."""
        self._most = most
        self._most_per_caller = most_per_caller
        self._waiting = 0
        self._waiting_of: Counter[str] = Counter()
        self._lines: dict[tuple[str | None, int], list[Place]] = {}
        self._tickets = count()
        self._in_line = 0
        self.places = 0
        """How many there are in all lines, those of people who have left not long ago included."""
        self._unjudged: list[Waiter] = []

    def __len__(self) -> int:
        """How many wait."""
        return self._waiting

    def enter(self, caller: str, seen: Extent) -> Waiter:
        """Let somebody wait; whoever enters must leave.

        Raises:
            TooManyWaitingError: there is no room.
        """
        if len(self) >= self._most:
            raise TooManyWaitingError("too many requests are waiting for the read model")
        if self._waiting_of[caller] >= self._most_per_caller:
            raise TooManyWaitingError("too many of your requests are waiting for the read model")
        self._waiting += 1
        self._waiting_of[caller] += 1
        waiter = Waiter(caller, seen)
        self._unjudged.append(waiter)
        self._stand_in_line(waiter)
        return waiter

    def leave(self, waiter: Waiter) -> None:
        """Let somebody go, whether there is anything left to wait for or not."""
        self._waiting -= 1
        self._waiting_of[waiter.caller] -= 1
        if not self._waiting_of[waiter.caller]:
            del self._waiting_of[waiter.caller]
        waiter.arrived.cancel()
        self._step_out_of_line(waiter)

    def arrive(self, reached: Extent) -> None:
        """The read model is that far: wake those whom it has reached, and nobody else."""
        self.reached = reached
        for (log_id, partition), line in list(self._lines.items()):
            position = reached.position(log_id, partition)
            while line and line[0][0] <= position:
                _, ticket, waiter = heappop(line)
                self.places -= 1
                if waiter.ticket == ticket:
                    self._in_line -= 1
                    self._stand_in_line(waiter)
            if not line:
                del self._lines[log_id, partition]

    def take_unjudged(self) -> list[Waiter]:
        """Those of whom nobody has said yet whether what they wait for can come; once each."""
        taken, self._unjudged = self._unjudged, []
        return [waiter for waiter in taken if not waiter.arrived.done()]

    def judge(self, waiters: Iterable[Waiter], log: Extent | None) -> None:
        """Let nobody wait for what is not in the log.

        Args:
            waiters: who had come before somebody looked at the log.
            log: what was seen there; None: nobody could look, and what is known is of which log
                the read model is.
        """
        for waiter in waiters:
            if log is not None:
                own = log.own(waiter.seen)
            elif self.reached is None or self.reached.log_id in {None, waiter.seen.log_id}:
                continue
            else:
                own = {}
            if not waiter.arrived.done() and own != waiter.seen.positions:
                self._step_out_of_line(waiter)
                waiter.see(replace(waiter.seen, positions=own))
                self._stand_in_line(waiter)

    def _stand_in_line(self, waiter: Waiter) -> None:
        """In the line of something that is still missing; or there is nothing, and it is told."""
        missing = waiter.next_missing(self.reached)
        if missing is None:
            waiter.ticket = None
            waiter.arrived.set_result(None)
            return
        partition, position = missing
        waiter.ticket = next(self._tickets)
        self._in_line += 1
        self.places += 1
        line = self._lines.setdefault((waiter.seen.log_id, partition), [])
        heappush(line, (position, waiter.ticket, waiter))

    def _step_out_of_line(self, waiter: Waiter) -> None:
        """The place itself stays, until most of them are such places."""
        if waiter.ticket is None:
            return
        waiter.ticket = None
        self._in_line -= 1
        if self.places > 2 * self._in_line:
            self._close_ranks()

    def _close_ranks(self) -> None:
        for key, line in list(self._lines.items()):
            line[:] = [place for place in line if place[2].ticket == place[1]]
            heapify(line)
            if not line:
                del self._lines[key]
        self.places = self._in_line
