"""A way out of this process for what may be lost, but must never be waited for: logs and traces.

A bounded queue, and one thread that empties it into whoever is at the other end. What finds no room
is dropped; everything that is not delivered is counted.
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from prometheus_client import Counter

TOGETHER_MAX = 500
CLOSE_DEADLINE_SECONDS = 2.0
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 5.0

Item = TypeVar("Item")


class UndeliveredError(Exception):
    """Whether anything arrived is not known; it has to be sent again."""


class RefusedError(Exception):
    """The other end will never take these."""


class Pipe(Generic[Item]):
    """Takes items in, and delivers them in order, in a thread of its own.

    Args:
        name: of the thread.
        deliver: sends some items and returns when they have arrived, or raises UndeliveredError,
            and is given the same items again, or RefusedError. It is called in the thread, and has
            a deadline of its own.
        size: of one item; the sum of those that wait is at most `size_max`.
        size_max: what comes on top is dropped.
        sent: counts what was delivered.
        dropped: counts what was not.
        hang_up: called in the thread at its end.
    """

    def __init__(
        self,
        name: str,
        deliver: Callable[[Sequence[Item]], None],
        *,
        size: Callable[[Item], int],
        size_max: int,
        sent: Counter,
        dropped: Counter,
        hang_up: Callable[[], None],
    ) -> None:
        self._deliver = deliver
        self._size_of = size
        self._size_max = size_max
        self._sent = sent
        self._dropped = dropped
        self._hang_up = hang_up
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._waiting: deque[Item] = deque()
        self._in_flight: list[Item] = []
        self.size = 0
        """Of everything that waits."""
        self._together = TOGETHER_MAX
        self._gives_up_at = float("inf")
        # A daemon, because a delivery that hangs must not keep the process alive.
        self._thread = threading.Thread(target=self._deliver_all, name=name, daemon=True)
        self._thread.start()

    def put(self, item: Item) -> None:
        """Put an item in line, or count it as dropped; returns at once."""
        size = self._size_of(item)
        with self._changed:
            if self.size + size > self._size_max or self._closing.is_set():
                self._dropped.inc()
                return
            self.size += size
            if not self._waiting:
                self._changed.notify()
            self._waiting.append(item)

    def close(self) -> None:
        """Deliver what waits, within a deadline, and count what could not be delivered."""
        with self._changed:
            self._gives_up_at = time.monotonic() + CLOSE_DEADLINE_SECONDS / 2
            self._closing.set()
            self._changed.notify()
        self._thread.join(CLOSE_DEADLINE_SECONDS)
        with self._changed:
            self._dropped.inc(len(self._waiting) + len(self._in_flight))
            self._waiting.clear()
            self._in_flight = []
            self.size = 0

    def _deliver_all(self) -> None:
        failures = 0
        while self._take():
            items = self._in_flight[: self._together]
            try:
                self._deliver(items)
            except UndeliveredError:
                failures += 1
                # Who is too slow for so many gets fewer, and makes progress.
                self._together = max(1, self._together // 2)
                self._pause(failures)
                continue
            except RefusedError:
                self._forget(items, self._dropped)
            else:
                self._forget(items, self._sent)
            failures = 0
            self._together = min(TOGETHER_MAX, self._together + self._together // 10 + 1)
        self._hang_up()

    def _take(self) -> bool:
        """Wait for something to deliver; False when there will be nothing, or no time for it."""
        with self._changed:
            if not self._in_flight:
                self._changed.wait_for(lambda: self._waiting or self._closing.is_set())
                count = min(len(self._waiting), TOGETHER_MAX)
                self._in_flight = [self._waiting.popleft() for _ in range(count)]
            return bool(self._in_flight) and time.monotonic() < self._gives_up_at

    def _forget(self, items: Sequence[Item], counter: Counter) -> None:
        with self._changed:
            # close() may have counted them as dropped in the meantime.
            if self._in_flight:
                counter.inc(len(items))
                self._in_flight = self._in_flight[len(items) :]
                self.size -= sum(map(self._size_of, items))

    def _pause(self, failures: int) -> None:
        """Rest after a failure, longer each time; at the end there is no time for that."""
        longest = min(FIRST_PAUSE_SECONDS * 2 ** min(failures, 10), LONGEST_PAUSE_SECONDS)
        rest = longest * random.uniform(0.5, 1.0)  # noqa: S311 - jitter is no secret
        if self._closing.wait(rest):
            time.sleep(FIRST_PAUSE_SECONDS)
