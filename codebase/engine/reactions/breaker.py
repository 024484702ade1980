"""Leaves a target alone that does not answer, and lets one attempt find out when it does again."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable

from codebase.foundation.backoff import doubled, with_jitter

FAILURES_TO_OPEN = 5
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0


class Breaker:
    """Closed: all may go; open: nobody; half open, after a pause: one.

    Args:
        clock: seconds that only ever grow.
        within_seconds: how close together so many failures have to be, with no success between.
        longest_pause_seconds: between two attempts that find out.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        *,
        within_seconds: float = math.inf,
        longest_pause_seconds: float = LONGEST_PAUSE_SECONDS,
    ) -> None:
        self._clock = clock
        self._within_seconds = within_seconds
        self._longest_pause_seconds = longest_pause_seconds
        self._failed_at = deque[float](maxlen=FAILURES_TO_OPEN)
        self._is_open = False
        self._pauses = 0
        self._open_until = 0.0

    @property
    def is_closed(self) -> bool:
        """Whether the target answers, as far as is known."""
        return not self._is_open

    def room(self, on_their_way: int, most: int) -> int:
        """How many more may go.

        Args:
            on_their_way: how many have gone and not come back.
            most: how many may be on their way together.
        """
        if self.is_closed:
            return most - on_their_way
        if self._clock() < self._open_until:
            return 0
        return 1 if on_their_way == 0 else 0

    def succeeded(self) -> None:
        """The target has answered."""
        self._failed_at.clear()
        self._is_open = False
        self._pauses = 0

    def failed(self) -> None:
        """It has not. Those who were on their way when it opened say nothing new."""
        now = self._clock()
        self._failed_at.append(now)
        is_full = len(self._failed_at) == FAILURES_TO_OPEN
        self._is_open |= is_full and now - self._failed_at[0] <= self._within_seconds
        if self._is_open and now >= self._open_until:
            longest = doubled(FIRST_PAUSE_SECONDS, self._pauses, self._longest_pause_seconds)
            self._open_until = now + with_jitter(longest)
            self._pauses += 1
