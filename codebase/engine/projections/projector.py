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
from prometheus_client import Counter
from psycopg import Connection, Cursor

from codebase.engine.log.check import LogMismatchError, check_partitions, read_head
from codebase.engine.messages.topology import Subscription
from codebase.engine.projections import set_aside
from codebase.engine.projections.attempts import forgive_attempt, last_attempted, note_attempt
from codebase.engine.projections.blame import ApplyFailedError, describe, is_circumstance
from codebase.engine.projections.checkpoint import (
    STORE_OPTIONS,
    FencedError,
    check_checkpoint,
    load_checkpoint,
    move_checkpoint,
)
from codebase.engine.projections.feed import Delivery, Feed
from codebase.engine.projections.log_feed import LogFeed
from codebase.engine.projections.logged_events import LogGapError, LoggedEvent, read_events
from codebase.engine.projections.notice_check import NoticeCheck
from codebase.engine.projections.parked_figures import LABELS, ParkedFigures
from codebase.engine.projections.projection import Projector
from codebase.engine.projections.queue_feed import QueueFeed
from codebase.foundation.backoff import Pauses
from codebase.foundation.failpoints import failpoint
from codebase.foundation.leadership import wait_to_lead
from codebase.foundation.observability import telemetry
from codebase.foundation.postgres import connect
from codebase.foundation.progress import Progress, ProgressGauges
from codebase.foundation.settings import Settings
from codebase.foundation.sql_watch import SqlWatch
from codebase.foundation.worker import Team, Worker

logger = logging.getLogger(__name__)

GAUGES = ProgressGauges("orderly_projection", LABELS)
PROJECTED = Counter("orderly_projected_events", "Events applied or set aside.", LABELS)

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
        self._checkpoint = 0
        self._check_at = 0.0
        self._parked = ParkedFigures(projector.name, partition)
        self._traces = telemetry.current()
        self._progress = Progress(GAUGES, projector.name, partition)
        PROJECTED.labels(projector.name, partition)
        # Up to this position events are applied one by one: among them is one that failed.
        self._singly_until = 0
        self._know_attempt = False
        self._to_forgive = False
        self._taken: Sequence[Delivery] = ()
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
                # Whatever was being applied is not to blame, so its attempt does not count.
                self._to_forgive = True
                self._waiting_for = describe(error)
                self._progress.pause()
                logger.warning("%s pauses: %s", self._projector.name, self._waiting_for)
                self._pauses.pause()
        self._progress.stand_by()

    @contextmanager
    def _connections(self) -> Iterator[tuple[Connection[Any], Connection[Any]]]:
        log_url = self._settings.required("write_model_reader_url")
        store_url = self._settings.required("read_model_projector_url")
        with (
            connect(log_url, self._projector.name) as log,
            connect(store_url, self._projector.name, options=STORE_OPTIONS) as store,
        ):
            yield self._watch.over(log), self._watch.over(store)

    def _work(self, log: Connection[Any], store: Connection[Any]) -> None:
        check_partitions(log, self._settings.partitions)
        self._feed.open()
        if not wait_to_lead(store, LEAD, self._key, self._stop, stand_by=self._stand_by):
            return
        self._load(store)
        self._progress.lead()
        look_again = True
        while not self._stop.is_set():
            # What was taken and not settled, because a connection broke, is still owed.
            self._taken = self._taken or self._feed.take(found=look_again)
            look_again = self._look(log, store)
            self._waiting_for = None
            self._pauses.succeeded()

    def _stand_by(self) -> None:
        self._progress.stand_by()
        self._waiting_for = None  # a standby is healthy

    def _load(self, store: Connection[Any]) -> None:
        self._checkpoint = load_checkpoint(store, self._key)
        if not self._know_attempt:
            # Noted but not committed: the last process died in it, perhaps because of it.
            self._singly_until = last_attempted(store, self._key)
            self._know_attempt = True
        if self._to_forgive:
            forgive_attempt(store, self._key)
            self._to_forgive = False

    def _look(self, log: Connection[Any], store: Connection[Any]) -> bool:
        """Project what the log has after the checkpoint, as far as the messages taken go.

        Returns:
            Whether the log should be looked at again at once, without a message.
        """
        self._check(log, store)
        notices = NoticeCheck(self._taken, self._partition, self._checkpoint)
        asked, events = not self._taken or notices.open, list[LoggedEvent]()
        while asked and not self._stop.is_set():
            events = self._read(log)
            notices.judge(events)
            self._project_traced(log, store, events)
            asked = bool(events) and notices.open
        if self._stop.is_set():
            return False
        notices.judge_the_rest()
        self._feed.settle(self._taken, notices.rejected)
        was_told, self._taken = bool(self._taken), ()
        return bool(events) and not was_told

    def _check(self, log: Connection[Any], store: Connection[Any]) -> None:
        """Notice now and then that a store went back, also when there is nothing to commit.

        A server that crashed may have lost its last transactions; one that was restored, more.
        Messages would not tell: those of a log that went back look like repeats.
        """
        now = time.monotonic()
        if now < self._check_at:
            return
        self._check_at = now + self._settings.read_model_check_seconds
        self._measure(log)
        self._parked.show(store, check_checkpoint(store, self._key, self._checkpoint))

    def _measure(self, log: Connection[Any]) -> int:
        """The head of the log; how far it is away is noted for the metrics."""
        head = read_head(log, self._partition, self._checkpoint)
        self._progress.measure(log, head, self._checkpoint)
        return head

    def _read(self, log: Connection[Any]) -> list[LoggedEvent]:
        # Most looks find nothing new, and the head of the log tells so at a tenth of the price.
        if self._measure(log) == self._checkpoint:
            return []
        events = read_events(
            log,
            self._partition,
            after=self._checkpoint,
            limit=self._settings.projector_batch,
            categories=self._projector.categories,
        )
        if not events:
            # A head is committed together with its events.
            raise LogGapError(f"partition {self._partition} has nothing above {self._checkpoint}")
        return events

    def _project_traced(
        self, log: Connection[Any], store: Connection[Any], events: Sequence[LoggedEvent]
    ) -> None:
        before, begun_at = self._checkpoint, time.time_ns()
        self._project(store, events)
        if self._traces is not None and self._checkpoint > before:
            chunk = {"partition": self._partition, "first": before + 1, "last": self._checkpoint}
            self._traces.applied(log, self._projector.name, chunk, begun_at)

    def _project(self, store: Connection[Any], events: Sequence[LoggedEvent]) -> None:
        """Commit `events`; together when that works, otherwise one by one."""
        if not events:
            return
        if self._settings.projector_delay_seconds:
            self._stop.wait(self._settings.projector_delay_seconds)
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
            if note_attempt(store, self._key, event, event) > self._settings.max_attempts:
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
        with store.transaction(), store.cursor(binary=True) as cursor:
            parked = self._move_checkpoint(cursor, events[-1].position)
            to_apply, to_park = set_aside.split(events, parked)
            if to_park:
                set_aside.park_events(cursor, self._projector.name, self._partition, to_park)
            self._apply(cursor, to_apply)
            failpoint("projector_before_commit")
        self._arrived(events)
        failpoint("projector_after_apply")

    def _park(self, store: Connection[Any], event: LoggedEvent, reason: str) -> None:
        with store.transaction(), store.cursor(binary=True) as cursor:
            parked = self._move_checkpoint(cursor, event.position)
            if event.stream_id in parked:
                set_aside.park_events(cursor, self._projector.name, self._partition, [event])
            else:
                set_aside.park_stream(cursor, self._projector.name, event, reason)
        self._arrived([event])
        logger.error(
            "stream %s is parked from position %d on: %s",
            event.stream_id,
            event.position,
            reason,
            extra=self._key,
        )

    def _move_checkpoint(self, cursor: Cursor[Any], position: int) -> set[Any]:
        if not move_checkpoint(cursor, self._key, old=self._checkpoint, new=position):
            return set()
        return set_aside.parked_streams(cursor, self._projector.name, self._partition)

    def _apply(self, cursor: Cursor[Any], events: Sequence[LoggedEvent]) -> None:
        try:
            self._projector.apply(cursor, events)
        except Exception as error:
            # Broad on purpose: whatever a projection raises, its event is what must not stop
            # the others. What comes from the circumstances goes on to be tried again.
            if is_circumstance(error):
                raise
            raise ApplyFailedError from error

    def _arrived(self, events: Sequence[LoggedEvent]) -> None:
        self._checkpoint = events[-1].position
        self._progress.arrive(self._checkpoint)
        PROJECTED.labels(self._projector.name, self._partition).inc(len(events))


def projector_team(settings: Settings, projector: Projector, subscription: Subscription) -> Team:
    """One worker per partition, and one that listens to its queue when there is a broker.

    Args:
        settings: addresses, partitions, batch size.
        projector: what to apply.
        subscription: whose queues bring the news.
    """
    stop = threading.Event()
    workers: list[Worker] = []
    missing: list[Callable[[], str | None]] = []
    for partition in settings.worked_partitions:
        name = f"{projector.name}.{partition}"
        feed: Feed = LogFeed(stop, settings.idle_poll_seconds)
        if settings.broker_url:
            feed = queue_feed = QueueFeed(subscription, partition, settings, stop)
            listen = queue_feed.listen
            workers.append(Worker(f"{name} queue", listen, stop=stop, wake=feed.wake))
        worker = PartitionProjector(projector, partition, settings, feed, stop)
        workers.append(Worker(name, worker.run, stop=stop, wake=feed.wake))
        missing.append(worker.what_is_missing)
    return Team(workers, missing)
