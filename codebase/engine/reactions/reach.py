"""How far back a look for what is due begins.

While somebody holds a snapshot, a backup of hours say, an index keeps an entry of everything that
was done since, and who begins at its first entry walks through all of them. So a look begins where
the one before has left nothing. What turns up behind that, because its commit took long or a clock
was moved, is found by a look at all there is: latency depends on this, and nothing else does.
"""

from __future__ import annotations

import math

MARGIN_SECONDS = 2.0
"""What is written now may be committed so much later, and is found at once all the same."""
ALL_INTERVAL_SECONDS = 1.0
REST_FACTOR = 20
"""Looking at all there is takes a twentieth of the time, however much was done,"""
LONGEST_INTERVAL_SECONDS = 30.0
"""unless nobody would look for longer than this: a process may have been paused in a look."""


class Reach:
    """How far back looks for one target begin. Moments are seconds of one clock that only grows."""

    def __init__(self) -> None:
        self._nothing_before = -math.inf
        self._all_at = -math.inf
        self._is_behind = False

    @property
    def is_behind(self) -> bool:
        """Whether a look at all there is has found what is to be taken."""
        return self._is_behind

    def back_seconds(self, now: float) -> float | None:
        """From how long ago on somebody who takes has to look; None: at all there is."""
        return None if self._is_behind else self.back_seconds_of_a_glance(now)

    def back_seconds_of_a_glance(self, now: float) -> float | None:
        """The same for somebody who takes nothing, and may look again and again in vain."""
        back = now - self._nothing_before + MARGIN_SECONDS
        # Before anybody has taken anything that is infinite, which is no interval of Postgres.
        return None if now >= self._all_at or math.isinf(back) else back

    def taken(self, back: float | None, began: float, ended: float, left_seconds: float) -> None:
        """What was due is taken, up to what has been due for `left_seconds`; 0: that was all."""
        self._nothing_before = began - left_seconds
        if back is None:
            self._is_behind = False
            self._saw_all(began, ended)

    def glanced(self, back: float | None, began: float, ended: float, *, is_due: bool) -> None:
        """Somebody has looked; what only a look at all there is has found is taken by another."""
        if not is_due:
            self._nothing_before = began
        if back is None:
            self._is_behind |= is_due
            self._saw_all(began, ended)

    def _saw_all(self, began: float, ended: float) -> None:
        rest = max(ALL_INTERVAL_SECONDS, REST_FACTOR * (ended - began))
        self._all_at = ended + min(rest, LONGEST_INTERVAL_SECONDS)
