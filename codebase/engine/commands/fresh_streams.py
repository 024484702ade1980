"""How this process left the streams that it wrote last, so that it goes on without reading them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from codebase.engine.commands.history import Entry, History
from codebase.engine.commands.log_connection import LogStanding

STREAMS_MAX = 1_000


@dataclass(kw_only=True, slots=True)
class FreshStream:
    """A stream as of its last event, which was written just now."""

    category: str
    version: int
    last: Entry
    state: Any


class FreshStreams:
    """The streams that were written last.

    What somebody does step by step, as a reaction does, finds its stream as the step before left
    it. That is an assumption, as it is of a creation that there is nothing yet: whoever writes
    learns from `append()` whether it was right, and whoever does not is decided once more on what
    the log says. Of the past there is nothing here, so that nobody who has a key is answered by it.

    A log that was restored is found on new connections only: then nothing is assumed.

    Args:
        standing: counts the connections to the log.
    """

    def __init__(self, standing: LogStanding) -> None:
        self._standing = standing
        self._connections = 0
        # Most services have nobody who goes on.
        self._is_asked = False
        self._streams: OrderedDict[UUID, FreshStream] = OrderedDict()

    def __len__(self) -> int:
        """How many are kept."""
        return len(self._streams)

    @property
    def connections(self) -> int:
        """How many there have been to the log."""
        return self._standing.connections

    def histories(self, stream_ids: Collection[UUID]) -> dict[UUID, History]:
        """Those that are known, as streams that were not read."""
        self._forget_others()
        self._is_asked |= bool(stream_ids)
        return {
            stream_id: _history(known)
            for stream_id in stream_ids
            if (known := self._streams.get(stream_id))
        }

    def keep_all(self, written: Iterable[tuple[UUID, FreshStream]], connections: int) -> None:
        """Keep how streams were left, if anybody has ever gone on with one; see `keep`."""
        if self._is_asked:
            for stream_id, stream in written:
                self.keep(stream_id, stream, connections)

    def keep(self, stream_id: UUID, stream: FreshStream, connections: int) -> None:
        """Keep how a stream was left.

        Args:
            stream_id: of the stream.
            stream: as it is now.
            connections: of the log, counted before it was written.
        """
        self._forget_others()
        if connections != self._connections:
            return
        self._streams[stream_id] = stream
        self._streams.move_to_end(stream_id)
        if len(self._streams) > STREAMS_MAX:
            self._streams.popitem(last=False)

    def _forget_others(self) -> None:
        if self._connections != self._standing.connections:
            self._connections = self._standing.connections
            self._streams.clear()


def _history(known: FreshStream) -> History:
    return History(
        read=False,
        category=known.category,
        version=known.version,
        entries={known.version: known.last},
        states={0: None, known.version: known.state},
    )
