"""What is kept of long streams from one command to the next, so that none is read twice."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from codebase.engine.commands.history import Entry, History
from codebase.engine.commands.milestones import Milestones

LONG = 64
"""Events from which on a stream is kept. Thousands of short ones, which may all be needed at once,
would push out those that take long to read."""
STREAMS_MAX = 1_000


@dataclass(frozen=True, kw_only=True, slots=True)
class LongStream:
    """What is kept of a stream of `version` events."""

    category: str | None
    version: int
    first: Entry
    last: Entry
    state: Any
    milestones: Milestones

    def history(self) -> History:
        """What a round has to know of it."""
        history = History(
            category=self.category,
            version=self.version,
            states={0: None, self.version: self.state},
            milestones=self.milestones,
        )
        history.enter(1, self.first)
        history.enter(self.version, self.last)
        return history


class LongStreams:
    """The long streams that were used last.

    They may be out of date and never do harm: whoever reads on makes sure that the last event still
    stands in the log, and `append()` refuses what was decided on an older version.

    Args:
        at_most: how many.
    """

    def __init__(self, at_most: int = STREAMS_MAX) -> None:
        self._at_most = at_most
        self._streams: OrderedDict[UUID, LongStream] = OrderedDict()

    def __len__(self) -> int:
        """How many are kept."""
        return len(self._streams)

    def history(self, stream_id: UUID) -> History:
        """What is kept of a stream, or an empty history to begin with."""
        known = self._streams.get(stream_id)
        if known is None:
            return History()
        self._streams.move_to_end(stream_id)
        return known.history()

    def keep(self, stream_id: UUID, history: History) -> None:
        """Keep a history that was just read on, if it is long; what lies within it is let go."""
        if history.version < LONG:
            return
        milestones = history.shorten()
        known = self._streams.get(stream_id)
        if known is None or known.version < history.version:
            self._put(
                stream_id,
                LongStream(
                    category=history.category,
                    version=history.version,
                    first=history.entries[1],
                    last=history.entries[history.version],
                    state=history.states[history.version],
                    milestones=milestones,
                ),
            )

    def _put(self, stream_id: UUID, stream: LongStream) -> None:
        self._streams[stream_id] = stream
        self._streams.move_to_end(stream_id)
        if len(self._streams) > self._at_most:
            self._streams.popitem(last=False)

    def forget(self, stream_id: UUID) -> None:
        """The log holds something else."""
        self._streams.pop(stream_id, None)
