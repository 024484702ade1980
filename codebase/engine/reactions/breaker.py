"""Leaves a target alone that does not answer, and lets one attempt find out when it does again."""

from __future__ import annotations

import time
from collections.abc import Callable

from codebase.foundation.backoff import doubled, with_jitter

FAILURES_TO_OPEN = 5
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0


class Breaker:
    """Closed: all may go; open: nobody; half open, after a pause: one.

    Args:
        clock: seconds that only ever grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures = 0
        self._pauses = 0
        self._open_until = 0.0

    @property
    def is_closed(self) -> bool:
        """Whether the target answers, as far as is known."""
        return self._failures < FAILURES_TO_OPEN

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
        self._failures = self._pauses = 0

    def failed(self) -> None:
        """It has not. Those who were on their way when it opened say nothing new."""
        self._failures += 1
        if not self.is_closed and self._clock() >= self._open_until:
            longest = doubled(FIRST_PAUSE_SECONDS, self._pauses, LONGEST_PAUSE_SECONDS)
            self._open_until = self._clock() + with_jitter(longest)
            self._pauses += 1
