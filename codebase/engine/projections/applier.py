"""Applying events: rows and checkpoint in one transaction.

Together when that works, otherwise one by one; an event that fails again and again is set aside
with what follows in its stream.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from prometheus_client import Counter
from psycopg import Connection, Cursor

from codebase.engine.projections import set_aside
from codebase.engine.projections.attempts import forgive_attempt, last_attempted, note_attempt
from codebase.engine.projections.blame import ApplyFailedError, describe, is_circumstance
from codebase.engine.projections.checkpoint import (
    Place,
    load_checkpoint,
    move_checkpoint,
    name_log,
)
from codebase.engine.projections.logged_events import LoggedEvent
from codebase.engine.projections.parked_figures import LABELS
from codebase.engine.projections.projection import Projector, unknown
from codebase.foundation.backoff import Pauses
from codebase.foundation.failpoints import failpoint
from codebase.foundation.progress import Progress
from codebase.foundation.settings import Settings

logger = logging.getLogger(__name__)

PROJECTED = Counter("orderly_projected_events", "Events applied or set aside.", LABELS)


class Applier:
    """Applies one projector's events of one partition, each once and in order.

    Args:
        projector: what to apply.
        partition: of the log.
        settings: how often an event is tried.
        stop: ends what takes long.
        progress: is told of every commit.
    """

    def __init__(
        self,
        projector: Projector,
        partition: int,
        settings: Settings,
        stop: threading.Event,
        progress: Progress,
    ) -> None:
        self._projector = projector
        self._partition = partition
        self._max_attempts = settings.max_attempts
        self._delay_seconds = settings.projector_delay_seconds
        self._stop = stop
        self._progress = progress
        self._key = {"projector": projector.name, "partition": partition}
        self.place = Place(0, None, None)
        # Up to this position events are applied one by one: among them is one that failed.
        self._singly_until = 0
        self._know_attempt = False
        self._to_forgive = False
        PROJECTED.labels(projector.name, partition)

    @property
    def checkpoint(self) -> int:
        """The position up to which everything is applied or set aside."""
        return self.place.position

    def forgive(self) -> None:
        """Whatever was being applied is not to blame for what happened: it does not count."""
        self._to_forgive = True

    def load(self, store: Connection[Any]) -> None:
        """Take up the work where the store says that it was left."""
        self.place = load_checkpoint(store, self._key)
        if not self._know_attempt:
            # Noted but not committed: the last process died in it, perhaps because of it.
            self._singly_until = last_attempted(store, self._key)
            self._know_attempt = True
        if self._to_forgive:
            forgive_attempt(store, self._key)
            self._to_forgive = False

    def name_log(self, store: Connection[Any], log_id: str) -> None:
        """The events come from this log, as those before did; the store is to know it as well."""
        name_log(store, self._key, log_id)
        self.place = replace(self.place, log_id=log_id)

    def apply(self, store: Connection[Any], events: Sequence[LoggedEvent]) -> None:
        """Commit `events`, which follow on the checkpoint; as many as the stop leaves time for.

        Raises:
            psycopg.Error, FencedError: nothing of what was being committed is there.
        """
        if not events:
            return
        if self._delay_seconds:
            self._stop.wait(self._delay_seconds)
        if events[0].position > self._singly_until:
            try:
                self._commit_batch(store, events)
            except ApplyFailedError as error:
                logger.warning("a batch failed: %s", describe(error.__cause__), extra=self._key)
                self._singly_until = events[-1].position
            else:
                return
        for event in events:
            if self._stop.is_set():
                return
            self._commit_one(store, event)

    def _commit_one(self, store: Connection[Any], event: LoggedEvent) -> None:
        reason = "the process ended while it was being applied"
        pauses = Pauses(self._stop)
        while not self._stop.is_set():
            if note_attempt(store, self._key, event, event) > self._max_attempts:
                self._park(store, event, reason)
                return
            try:
                self._commit(store, [event])
            except ApplyFailedError as error:
                reason = describe(error.__cause__)
                logger.warning(
                    "event at position %d failed: %s", event.position, reason, extra=self._key
                )
                pauses.pause()
            else:
                return

    def _commit_batch(self, store: Connection[Any], events: Sequence[LoggedEvent]) -> None:
        note_attempt(store, self._key, events[0], events[-1])
        self._commit(store, events)

    def _commit(self, store: Connection[Any], events: Sequence[LoggedEvent]) -> None:
        try:
            found = self._write(store, events)
        except BaseException:
            self._projector.not_committed()
            raise
        for event in found.unknown:
            self._tell_of_parking(event, unknown(event))
        self._arrived(events)
        failpoint("projector_after_apply")
        self._projector.committed()

    def _write(self, store: Connection[Any], events: Sequence[LoggedEvent]) -> set_aside.Sorted:
        """Rows and checkpoint in one transaction."""
        with store.transaction(), store.cursor(binary=True) as cursor:
            parked = self._move_checkpoint(cursor, events)
            found = set_aside.sort(events, parked, self._projector.is_unknown)
            # Trying does not make them known; an upgrade and a retry will.
            for event in found.unknown:
                set_aside.park_stream(cursor, self._projector.name, event, unknown(event))
            if found.of_parked_streams:
                set_aside.park_events(
                    cursor, self._projector.name, self._partition, found.of_parked_streams
                )
            self._write_rows(cursor, found.to_apply)
            failpoint("projector_before_commit")
        return found

    def _park(self, store: Connection[Any], event: LoggedEvent, reason: str) -> None:
        with store.transaction(), store.cursor(binary=True) as cursor:
            parked = self._move_checkpoint(cursor, [event])
            if event.stream_id in parked:
                set_aside.park_events(cursor, self._projector.name, self._partition, [event])
            else:
                set_aside.park_stream(cursor, self._projector.name, event, reason)
        self._tell_of_parking(event, reason)
        self._arrived([event])

    def _tell_of_parking(self, event: LoggedEvent, reason: str) -> None:
        logger.error(
            "stream %s is parked from position %d on: %s",
            event.stream_id,
            event.position,
            reason,
            extra=self._key,
        )

    def _move_checkpoint(self, cursor: Cursor[Any], events: Sequence[LoggedEvent]) -> set[UUID]:
        """Move it past the events; returns which of their streams are parked."""
        log_id, last = self.place.log_id, events[-1]
        if not move_checkpoint(cursor, self._key, old=self.checkpoint, new=last, log_id=log_id):
            return set()
        return set_aside.parked_streams(cursor, self._projector.name, events)

    def _write_rows(self, cursor: Cursor[Any], events: Sequence[LoggedEvent]) -> None:
        try:
            self._projector.apply(cursor, events)
        except Exception as error:
            # Broad on purpose: whatever a projection raises, its event is what must not stop
            # the others. What comes from the circumstances goes on to be tried again.
            if is_circumstance(error):
                raise
            raise ApplyFailedError from error

    def _arrived(self, events: Sequence[LoggedEvent]) -> None:
        before, last = self.checkpoint, events[-1]
        self.place = Place(last.position, last.event_id, self.place.log_id)
        self._progress.arrive(self.checkpoint)
        # With those that it does not want, and that were not read.
        PROJECTED.labels(self._projector.name, self._partition).inc(self.checkpoint - before)
