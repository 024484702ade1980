"""Payments that this process has initiated a moment ago, and need not look at before they begin."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from uuid import UUID

JUST_NOW_SECONDS = 1.0
"""After so long a person may have settled it: whoever pays it then looks at the log first."""

FORGOTTEN_AFTER_SECONDS = 10.0
"""Another process pays it then, or it waits for a provider that is away."""


class Initiations:
    """Remembers them until they are paid; whoever finds none here looks at the log.

    Args:
        is_there: whether the provider is, as far as is known.
        most: how many may wait for it. What is initiated never gets too old to be paid, so that
            nothing is while nobody takes the money, and not much while he takes it slowly.
        clock: seconds that only ever grow.
    """

    def __init__(
        self,
        is_there: Callable[[], bool],
        most: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._is_there = is_there
        self._most = most
        self._clock = clock
        # The oldest first.
        self._noted = OrderedDict[UUID, float]()

    def may_begin(self) -> bool:
        """Whether one more may be."""
        self._forget_old()
        return self._is_there() and len(self._noted) < self._most

    def note(self, transaction_id: UUID) -> None:
        """It was initiated now."""
        self._noted[transaction_id] = self._clock()

    def take_recent(self, transaction_id: UUID) -> bool:
        """Forget it; whether it was initiated here a moment ago."""
        noted_at = self._noted.pop(transaction_id, None)
        return noted_at is not None and self._clock() - noted_at <= JUST_NOW_SECONDS

    def _forget_old(self) -> None:
        since = self._clock() - FORGOTTEN_AFTER_SECONDS
        while self._noted and next(iter(self._noted.values())) < since:
            self._noted.popitem(last=False)
