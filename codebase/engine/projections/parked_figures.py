"""How much is parked, in figures for operators."""

from __future__ import annotations

import time
from typing import Any

from prometheus_client import Gauge
from psycopg import Connection

from codebase.engine.projections.set_aside import count_events

LABELS = ["projector", "partition"]
PARKED_STREAMS = Gauge("orderly_parked_streams", "Streams that are parked.", LABELS)
PARKED_EVENTS = Gauge("orderly_parked_events", "Events of parked streams that wait.", LABELS)
COUNT_INTERVAL_SECONDS = 10.0
"""How often parked events are counted while the number of parked streams stays the same."""


class ParkedFigures:
    """What is told of one projector in one partition."""

    def __init__(self, projector: str, partition: int) -> None:
        self._projector = projector
        self._partition = partition
        self._count_at = 0.0
        self._streams = 0

    def show(self, store: Connection[Any], streams: int) -> None:
        """Tell how many streams are parked, and now and then how many events wait in them."""
        now = time.monotonic()
        if streams == self._streams and now < self._count_at:
            return
        self._count_at, self._streams = now + COUNT_INTERVAL_SECONDS, streams
        events = count_events(store, self._projector, self._partition) if streams else 0
        PARKED_STREAMS.labels(self._projector, self._partition).set(streams)
        PARKED_EVENTS.labels(self._projector, self._partition).set(events)
