"""What each caller has had written by this very process, for callers who keep no token."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from codebase.engine.log.extent import Extent

CALLERS_MAX = 10_000


class LastWritten:
    """Remembers callers; those who have written nothing for the longest time are forgotten.

    Args:
        most: how many callers.
    """

    def __init__(self, most: int = CALLERS_MAX) -> None:
        self._most = most
        self._positions: OrderedDict[str, dict[int, int]] = OrderedDict()
        self._log_id: str | None = None

    def note(self, caller: str, log_id: str | None, positions: Mapping[int, int]) -> None:
        """A command of this caller has been answered.

        Args:
            caller: its name.
            log_id: which log was written to; what is known of another one counts no more.
            positions: what was written, or found there by a repeat; empty when there was nothing.
        """
        if log_id != self._log_id:
            self._log_id = log_id
            self._positions.clear()
        if not positions:
            return
        known = self._positions.setdefault(caller, {})
        self._positions.move_to_end(caller)
        for partition, position in positions.items():
            # Answers may overtake each other.
            if position > known.get(partition, 0):
                known[partition] = position
        if len(self._positions) > self._most:
            self._positions.popitem(last=False)

    def of(self, caller: str) -> Extent | None:
        """How far into the log this caller has seen; None when nothing is known."""
        known = self._positions.get(caller)
        # A log without a name may be any, and its positions say nothing.
        if known is None or self._log_id is None:
            return None
        return Extent(self._log_id, dict(known))
