"""Guessing is slow, and it is seen: wrong secrets are counted by who sends them."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from math import ceil
from time import monotonic

from codebase.foundation.observability.seldom import SeldomWarning
from codebase.web.problems import HttpProblem

SENDERS_MAX = 1_000


class Attempts:
    """So many wrong ones at once, and then one every few seconds; others are not held up.

    Args:
        secret: what is guessed, for the warning, of which there is one a minute at most.
        burst: how many wrong ones a sender may send at once.
        seconds_each: after how long it may send one more.
        processes: how many count, each by itself: all together they allow no more.
        now: a clock that only goes on.
    """

    def __init__(
        self,
        secret: str,
        *,
        burst: int,
        seconds_each: float,
        processes: int = 1,
        now: Callable[[], float] = monotonic,
    ) -> None:
        self._secret = secret
        self._seconds_each = seconds_each * processes
        self._seconds_free = (max(1, burst // processes) - 1) * self._seconds_each
        self._now = now
        self._paid_until: dict[str, float] = {}
        self._warning = SeldomWarning("wrong_secret", now=now)

    def require_one(self, sender: str) -> None:
        """Go on only when a sender may try again.

        Raises:
            HttpProblem: 429, after how many seconds it may.
        """
        wait = self._paid_until.get(sender, 0.0) - self._now() - self._seconds_free
        if wait > 0:
            raise HttpProblem(
                HTTPStatus.TOO_MANY_REQUESTS,
                "too-many-attempts",
                f"{self._secret} was wrong too often",
                headers={"Retry-After": str(ceil(wait))},
            )

    def note_wrong(self, sender: str) -> None:
        """Count one that was wrong, and say so now and then."""
        now = self._now()
        paid_until = max(self._paid_until.pop(sender, now), now)
        if len(self._paid_until) >= SENDERS_MAX:
            # The one that has been quiet for longest.
            del self._paid_until[next(iter(self._paid_until))]
        self._paid_until[sender] = paid_until + self._seconds_each
        self._warning.note(secret=self._secret, sender=sender)
