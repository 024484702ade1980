"""The projector: takes a partition of the log into rows, each event once and in order.

Messages say which positions there are; the log says what they hold. A worker that is told of a
position reads the log from its checkpoint on, applies what it finds and commits rows and
checkpoint together. So a duplicate, a message out of order, a lost message and a forged one are
no special cases, and reading an event from the log costs less than parsing it out of a message.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import Connection

from codebase.engine.log.check import (
    LogMismatchError,
    check_event,
    check_log,
    check_partitions,
    read_head,
)
from codebase.engine.projections.applier import Applier
from codebase.engine.projections.blame import describe
from codebase.engine.projections.checkpoint import FencedError, check_checkpoint
from codebase.engine.projections.feed import Delivery, Feed
from codebase.engine.projections.log_feed import LogFeed
from codebase.engine.projections.logged_events import (
    BY_POSITION,
    LogGapError,
    LoggedEvent,
    read_wanted,
)
from codebase.engine.projections.notice_check import NoticeCheck
from codebase.engine.projections.parked_figures import LABELS, ParkedFigures
from codebase.engine.projections.projection import Projector
from codebase.engine.projections.queue_feed import QueueFeed
from codebase.foundation.backoff import Pauses
from codebase.foundation.forgetting import Forgetting, Kept
from codebase.foundation.leadership import wait_to_lead
from codebase.foundation.observability import telemetry
from codebase.foundation.oldest_snapshot import OldestSnapshot
from codebase.foundation.postgres import connect
from codebase.foundation.progress import Progress, ProgressGauges
from codebase.foundation.settings import Settings
from codebase.foundation.sql_watch import SqlWatch
from codebase.foundation.worker import Team, Worker

logger = logging.getLogger(__name__)

GAUGES = ProgressGauges("orderly_projection", LABELS)

CHECKS_PER_MEASUREMENT = 10
"""Of the oldest snapshot: an alert on it is about minutes, and a check comes every second."""

# Two workers for one partition would be safe, since the checkpoint is a fence, but they would
# only undo each other's work. The second one waits.
LEAD = "SELECT pg_try_advisory_lock(hashtext(%(projector)s), %(partition)s)"


class PartitionProjector:
    """Moves one projector through one partition.

    Args:
        projector: what to apply.
        partition: of the log.
        settings: addresses, batch size, attempts.
        feed: tells when to look at the log.
        stop: ends the work.
    """

    def __init__(
        self,
        projector: Projector,
        partition: int,
        settings: Settings,
        feed: Feed,
        stop: threading.Event,
    ) -> None:
        self._projector = projector
        self._partition = partition
        self._settings = settings
        self._feed = feed
        self._stop = stop
        self._key = {"projector": projector.name, "partition": partition}
        self._pauses = Pauses(stop)
        self._watch = SqlWatch(settings.database_deadline_seconds, stop)
        self._check_at = 0.0
        self._parked = ParkedFigures(projector.name, partition)
        self._oldest = [
            OldestSnapshot(
                each,
                (projector.name, partition),
                settings.read_model_check_seconds * CHECKS_PER_MEASUREMENT,
            )
            for each in ("write_model", projector.store.name)
        ]
        self._traces = telemetry.current()
        self._progress = Progress(GAUGES, projector.name, partition)
        self._applier = Applier(projector, partition, settings, stop, self._progress)
        self._taken: Sequence[Delivery] = ()
        self._found = self._is_up_to_date = False
        self._waiting_for: str | None = "not connected yet"

    def what_is_missing(self) -> str | None:
        """What keeps the worker from working, or None; called by other threads."""
        return self._watch.what_is_late() or self._waiting_for

    def run(self, _stop: threading.Event) -> None:
        """Work until stopped; whatever happens to the databases, try again."""
        while not self._stop.is_set():
            try:
                with self._connections() as (log, store):
                    self._work(log, store)
            except (psycopg.Error, LogGapError, LogMismatchError, FencedError) as error:
                self._applier.forgive()
                self._waiting_for = describe(error)
                self._progress.pause()
                self._forget_snapshots()
                logger.warning("%s pauses: %s", self._projector.name, self._waiting_for)
                self._pauses.pause()
        self._progress.stand_by()
        self._forget_snapshots()

    @contextmanager
    def _connections(self) -> Iterator[tuple[Connection[Any], Connection[Any]]]:
        log_url = self._settings.required("write_model_reader_url")
        place = self._projector.store
        store_url = self._settings.required(place.worker_url)
        with (
            connect(log_url, self._projector.name, options=BY_POSITION) as log,
            connect(store_url, self._projector.name, options=place.options) as store,
        ):
            yield self._watch.over(log), self._watch.over(store)

    def _work(self, log: Connection[Any], store: Connection[Any]) -> None:
        check_partitions(log, self._settings.partitions)
        self._feed.open()
        if not wait_to_lead(store, LEAD, self._key, self._stop, stand_by=self._stand_by):
            return
        # While this one stood by the store may have become another.
        self._projector.check_place(store)
        self._applier.load(store)
        self._check_at = 0.0
        reached = self._applier.checkpoint
        self._progress.measure(log, read_head(log, self._partition, reached), reached)
        self._check(log, store)
        self._applier.name_log(store, self._log_id(log))
        self._progress.lead()
        look_again = True
        while not self._stop.is_set():
            # What was taken and not settled, because a connection broke, is still owed.
            self._taken = self._taken or self._feed.take(found=look_again)
            look_again = self._look(log, store)
            self._waiting_for = None
            self._pauses.succeeded()
            if self._projector.rest_seconds and self._is_up_to_date:
                self._stop.wait(self._projector.rest_seconds)

    def _log_id(self, log: Connection[Any]) -> str:
        place = self._applier.place
        return check_log(log, place.position, place.log_id)

    def _stand_by(self) -> None:
        self._progress.stand_by()
        self._forget_snapshots()
        self._waiting_for = None  # a standby is healthy

    def _forget_snapshots(self) -> None:
        for each in self._oldest:
            each.forget()

    def _look(self, log: Connection[Any], store: Connection[Any]) -> bool:
        """Project what the log has after the checkpoint, as far as the messages taken go.

        Returns:
            Whether the log should be looked at again at once, without a message.
        """
        self._check(log, store)
        notices = NoticeCheck(self._taken, self._partition, self._applier.checkpoint)
        asked, events = not self._taken or notices.open, list[LoggedEvent]()
        while asked and not self._stop.is_set():
            events = self._read(log, notices)
            notices.judge(events)
            self._apply_traced(log, store, events)
            asked = bool(events) and notices.open
        if self._stop.is_set():
            return False
        notices.judge_the_rest()
        self._feed.settle(self._taken, notices.rejected)
        was_told, self._taken = bool(self._taken), ()
        return not was_told and self._is_more_likely(events)

    def _is_more_likely(self, events: Sequence[LoggedEvent]) -> bool:
        """Where others write all the time there are always new events, and none for this one."""
        if not events:
            return False
        return not self._is_up_to_date or any(event.data is not None for event in events)

    def _check(self, log: Connection[Any], store: Connection[Any]) -> None:
        """Notice now and then that a store went back, also when there is nothing to commit.

        A server that crashed may have lost its last transactions; one that was restored, more.
        Messages would not tell: those of a log that went back look like repeats. Nor does a
        position, once the log has grown past it again: what is compared is the event.
        """
        now = time.monotonic()
        if now < self._check_at:
            return
        self._check_at = now + self._settings.read_model_check_seconds
        self._projector.check_place(store)
        for each, connection in zip(self._oldest, (log, store), strict=True):
            each.measure(connection)
        place = self._applier.place
        if place.event_id is not None:
            check_event(log, self._partition, place.position, place.event_id)
        self._parked.show(store, check_checkpoint(store, self._key, self._applier.checkpoint))

    def _read(self, log: Connection[Any], notices: NoticeCheck) -> list[LoggedEvent]:
        """What the projector wants of the next piece, and what it was told of; [] at the end."""
        reached, limit = self._applier.checkpoint, self._settings.projector_batch
        if not self._found and not notices.open:
            # Most looks find nothing new, and the head of the log tells so at a tenth of the price.
            head = read_head(log, self._partition, reached)
            if head == reached:
                self._progress.measure(log, head, reached)
                self._is_up_to_date = False
                return []
        head, events = read_wanted(
            log,
            self._partition,
            after=reached,
            limit=limit,
            categories=self._projector.categories,
            passed_over=self._projector.passed_over,
            # What lies beyond is asked for with its own piece, or is in no log at all.
            also=notices.open_within(reached, reached + limit),
        )
        self._progress.measure(log, head, reached)
        self._is_up_to_date = reached < head < reached + limit
        self._found = bool(events)
        return events

    def _apply_traced(
        self, log: Connection[Any], store: Connection[Any], events: Sequence[LoggedEvent]
    ) -> None:
        before, begun_at = self._applier.checkpoint, time.time_ns()
        self._applier.apply(store, events)
        reached = self._applier.checkpoint
        if self._traces is not None and reached > before:
            chunk = {"partition": self._partition, "first": before + 1, "last": reached}
            self._traces.applied(log, self._projector.name, chunk, begun_at)


def projector_team(settings: Settings, projector: Projector, forgets: Sequence[Kept] = ()) -> Team:
    """One worker per partition, and one that listens to its queue when there is a broker.

    Args:
        settings: addresses, partitions, batch size.
        projector: what to apply.
        forgets: tables of its own from which goes what is too old.
    """
    stop = threading.Event()
    workers: list[Worker] = []
    missing: list[Callable[[], str | None]] = []
    for partition in settings.worked_partitions:
        name = f"{projector.name}.{partition}"
        feed: Feed = LogFeed(stop, settings.idle_poll_seconds)
        if settings.broker_url:
            feed = queue_feed = QueueFeed(projector, partition, settings, stop)
            listen = queue_feed.listen
            workers.append(Worker(f"{name} queue", listen, stop=stop, wake=feed.wake))
        worker = PartitionProjector(projector, partition, settings, feed, stop)
        workers.append(Worker(name, worker.run, stop=stop, wake=feed.wake))
        missing.append(worker.what_is_missing)
    if forgets:
        url, name = settings.required(projector.store.worker_url), f"{projector.name} forgetting"
        workers.append(Worker(name, Forgetting(url, name, forgets, stop).run, stop=stop))
    return Team(workers, missing)
