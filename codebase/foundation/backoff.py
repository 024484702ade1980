"""How long to wait before the next try: after a failure, and when there was nothing to do.

A single call that is tried again is tenacity's job. This is for what works without an end: there a
success, however long ago, starts a new count.
"""

from __future__ import annotations

import random
import threading

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 5.0
DOUBLINGS_MAX = 30


def doubled(first_seconds: float, times: int, longest_seconds: float) -> float:
    """`first_seconds`, doubled so many times, and at most `longest_seconds`."""
    return min(first_seconds * 2.0 ** min(times, DOUBLINGS_MAX), longest_seconds)


def with_jitter(seconds: float) -> float:
    """Between half of it and all of it, so that who failed together does not return together.

    Never close to zero, so that a failure that repeats does not spin.
    """
    return seconds * random.uniform(0.5, 1.0)  # noqa: S311 - jitter is no secret


class Pauses:
    """Longer and longer pauses between failures of a worker, ended early by `stop`."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self._failures = 0

    def succeeded(self) -> None:
        """The next pause will be a short one."""
        self._failures = 0

    def pause(self) -> None:
        """Rest after a failure."""
        longest = doubled(FIRST_PAUSE_SECONDS, self._failures, LONGEST_PAUSE_SECONDS)
        self._failures += 1
        self._stop.wait(with_jitter(longest))


class Rests:
    """The rests of a reader that polls: short while there is work, up to `longest` when idle."""

    def __init__(self, longest_seconds: float) -> None:
        self._longest = longest_seconds
        self._next = 0.0

    def after(self, *, found: bool) -> float:
        """How many seconds to rest after a look that did or did not find something."""
        if found:
            self._next = 0.0
            return 0.0
        self._next = min(max(self._next * 2, 0.001), self._longest)
        return self._next
