"""What is caused and goes on its way at once: its lease is written down together with it.

Otherwise it would have to be looked for and taken first: by a statement, a version of its row and
a commit of their own, and after the rest of a dispatcher that has just looked.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import uuid4

from pydantic_core import from_json

from codebase.engine.reactions.errands import Errands
from codebase.engine.reactions.reaction import Send, Sent
from codebase.engine.reactions.taken import Taken
from codebase.foundation.failpoints import failpoint


class Departures:
    """What goes on its way as soon as one transaction is committed; used by one thread.

    Args:
        errands: target -> this process' way to it; what is for others waits.
    """

    def __init__(self, errands: Mapping[str, Errands]) -> None:
        self.token = uuid4()
        self.leaves_some = False
        """Whether something was written down that waits for somebody to look for it."""
        self._errands = errands
        self._reserved = Counter[str]()
        self._ends_at: dict[str, float] = {}
        self._taken = defaultdict[str, list[Taken]](list)

    def leases(self, targets: Sequence[str | None]) -> list[float | None]:
        """Seconds of the lease of each thing that is to be written down; None: it waits.

        Args:
            targets: whom they are sent to, in order; None where it has to wait in any case.
        """
        left = Counter[str]()
        for target, wanted in Counter(filter(None, targets)).items():
            if errands := self._errands.get(target):
                # Before they are written: leases end no sooner than we think.
                self._ends_at[target] = errands.lease_ends_at()
                left[target] = errands.way.reserve_for_new(wanted)
        self._reserved += left
        return [self._lease(left, target) for target in targets]

    def _lease(self, left: Counter[str], target: str | None) -> float | None:
        if target is None or not left[target]:
            return None
        left[target] -= 1
        return self._errands[target].lease_seconds

    def note(self, written: Iterable[Sequence[Any]]) -> None:
        """These were written down.

        Args:
            written: number, key, subject, target and action of each, and its data as the store has
                it; None instead of that if it has no lease.
        """
        for number, key, subject, target, action, data in written:
            if data is None:
                self.leaves_some = True
                continue
            sent = Sent(key=key, subject=subject, send=Send(target, action, from_json(data)))
            taken = Taken(
                number=number,
                token=self.token,
                ends_at=self._ends_at[target],
                is_lost=False,
                sent=sent,
            )
            self._taken[target].append(taken)

    def start(self) -> None:
        """It is committed: off they go."""
        if self._taken:
            failpoint("reaction_after_taking")
        for target, taken in self._taken.items():
            self._reserved[target] -= len(taken)
            self._errands[target].depart(taken)
        self._end()

    def cancel(self) -> None:
        """It is not, or nobody knows: nothing goes, and what is there is given back."""
        for target, taken in self._taken.items():
            self._reserved[target] -= len(taken)
            self._errands[target].stay(taken)
        self._end()

    def _end(self) -> None:
        self._taken.clear()
        for target, count in self._reserved.items():
            self._errands[target].way.release(count)
        self._reserved.clear()
