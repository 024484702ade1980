"""The relay: publishes the log to the broker, in order, and never loses an event.

Whatever goes wrong between us and the broker leaves us in doubt about what arrived. The answer is
always the same: connect again, declare the topology again, publish again from the checkpoint, with
the same message ids. Consumers recognise a repeat by its position.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import pika
import psycopg
from pika.channel import Channel
from pika.exceptions import AMQPError
from prometheus_client import Counter
from psycopg import Connection

from codebase.engine.log.check import LogMismatchError, check_partitions, read_head
from codebase.engine.messages.broker import (
    BROKER_ERRORS,
    EVENTS,
    REQUEST_DEADLINE_SECONDS,
    Subscription,
    blocking_connection,
    deadline,
    declare_dead_letters,
    declare_subscription,
    parameters,
)
from codebase.foundation.failpoints import failpoint
from codebase.foundation.observability import telemetry
from codebase.foundation.postgres import connect
from codebase.foundation.progress import Progress, ProgressGauges
from codebase.foundation.settings import Settings
from codebase.foundation.sql_watch import SqlWatch
from codebase.foundation.worker import Pauses, Rests, Team, Worker

logger = logging.getLogger(__name__)

# One relay per partition. The lock belongs to the connection that moves the checkpoint: who loses
# the connection loses both, and a standby takes over.
LEAD = "SELECT pg_try_advisory_lock(%(lock)s, %(partition)s)"
RELAY_LOCK = 0x72656C79  # "rely" in ASCII
LEAD_RETRY_SECONDS = 0.5

READ_CHECKPOINT = "SELECT position FROM relay_checkpoint WHERE partition = %(partition)s"

MOVE_CHECKPOINT = """
    UPDATE relay_checkpoint SET position = %(new)s
    WHERE partition = %(partition)s AND position = %(old)s
"""

# The body is made here, in one pass over text that Postgres has at hand: the same in Python would
# cost more than everything else the relay does. See docs/asyncapi for its shape.
READ_MESSAGES = """
    SELECT position,
           meta ->> 'topic',
           meta ->> 'event_id',
           type,
           floor(extract(epoch FROM recorded_at))::bigint,
           stream_id::text,
           version,
           meta ->> 'traceparent',
           concat(
               '{"event_id":', to_json(meta ->> 'event_id'),
               ',"type":', to_json(type),
               ',"category":', to_json(category),
               ',"stream_id":"', stream_id,
               '","version":', version,
               ',"partition":', partition,
               ',"position":', position,
               ',"recorded_at":"',
               to_char(recorded_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
               '","data":', data,
               ',"meta":', meta,
               '}'
           )
    FROM event
    WHERE partition = %(partition)s AND position > %(after)s
    ORDER BY position
    LIMIT %(limit)s
"""

# A lost checkpoint only means publishing again what consumers know already.
RELAY_OPTIONS = "-c synchronous_commit=off"

SAVE_INTERVAL_SECONDS = 0.05
"""Confirms come in bursts; the checkpoint is written once for all that came in this time."""
CONFIRM_DEADLINE_SECONDS = 10.0
TOGETHER = 50
"""Messages that go to the socket in one piece, about 50 kB."""
DRAIN_DEADLINE_SECONDS = 1.0
CLOSE_DEADLINE_SECONDS = 2.0
WATCH_SECONDS = 0.1

GAUGES = ProgressGauges("orderly_relay", ["partition"])
REPUBLISHED = Counter(
    "orderly_relay_republished_events",
    "Events published again, because their fate was in doubt.",
    ["partition"],
)


class InDoubtError(Exception):
    """The broker did not confirm; what was in flight may or may not have arrived."""


class LostPlaceError(Exception):
    """The checkpoint is not where this relay left it: somebody else moved it."""


EXPECTED_ERRORS: tuple[type[Exception], ...] = (
    psycopg.Error,
    InDoubtError,
    LostPlaceError,
    LogMismatchError,
    *BROKER_ERRORS,
)


class Message(NamedTuple):
    """One event, ready to be published; the order is that of READ_MESSAGES."""

    position: int
    topic: str
    event_id: str
    type: str
    timestamp: int
    stream_id: str
    version: int
    traceparent: str | None
    body: str

    def properties(self, partition: int, traceparent: str | None) -> pika.BasicProperties:
        """What consumers see beside the body; `traceparent` may be a later span's."""
        headers: dict[str, Any] = {
            "partition": partition,
            "position": self.position,
            "stream_id": self.stream_id,
            "version": self.version,
        }
        if traceparent:
            headers["traceparent"] = traceparent
        return pika.BasicProperties(
            content_type="application/json",
            delivery_mode=pika.DeliveryMode.Persistent.value,
            headers=headers,
            message_id=self.event_id,
            timestamp=self.timestamp,
            type=self.type,
        )


class ConfirmedPrefix:
    """How far publishing is confirmed without a hole; confirms come in any order.

    Delivery tags of a channel count from 1, as positions count on from the checkpoint.
    """

    def __init__(self, checkpoint: int) -> None:
        self._base = checkpoint
        self._beyond: set[int] = set()
        self.position = checkpoint

    def confirm(self, delivery_tag: int, *, multiple: bool) -> None:
        """Take in one confirm, for one event or for all up to it."""
        position = self._base + delivery_tag
        if multiple:
            self.position = max(self.position, position)
            self._beyond = {each for each in self._beyond if each > self.position}
        else:
            self._beyond.add(position)
        while self.position + 1 in self._beyond:
            self.position += 1
            self._beyond.remove(self.position)


class PartitionRelay:
    """Publishes one partition while it holds the partition's lock.

    Args:
        partition: of the log.
        settings: addresses, window, idle rest.
        subscriptions: those that must not miss an event; their queues are declared first.
        stop: ends the work.
    """

    def __init__(
        self,
        partition: int,
        settings: Settings,
        subscriptions: Sequence[Subscription],
        stop: threading.Event,
    ) -> None:
        self.partition = partition
        self._settings = settings
        self._subscriptions = subscriptions
        self._stop = stop
        self._pauses = Pauses(stop)
        self._watch = SqlWatch(settings.database_deadline_seconds, stop)
        self._key = {"partition": partition}
        # Up to here something may have been published before: publishing it is a repeat.
        self._furthest = 0
        self._progress = Progress(GAUGES, partition)
        REPUBLISHED.labels(partition)
        self._waiting_for: str | None = "not connected yet"

    def what_is_missing(self) -> str | None:
        """What keeps the relay from working, or None; called by other threads."""
        return self._watch.what_is_late() or self._waiting_for

    def run(self, _stop: threading.Event) -> None:
        """Work until stopped; whatever happens to database or broker, try again."""
        while not self._stop.is_set():
            try:
                self._connect_and_relay()
            except EXPECTED_ERRORS as error:
                # A broker's or a database's own text is not for everybody's eyes.
                is_ours = isinstance(error, LostPlaceError | LogMismatchError)
                self._waiting_for = str(error) if is_ours else type(error).__name__
                self._progress.pause()
                logger.warning("relay %d pauses: %s", self.partition, describe(error))
                self._pauses.pause()
        self._progress.stand_by()

    def _connect_and_relay(self) -> None:
        url = self._settings.required("write_model_relay_url")
        with connect(url, "event_relay", options=RELAY_OPTIONS) as database:
            self._watch.over(database)
            check_partitions(database, self._settings.partitions)
            if not self._take_the_lead(database):
                return
            checkpoint = self._read_checkpoint(database)
            # Before the broker is needed: while it is away the log goes on to grow.
            head = read_head(database, self.partition, checkpoint)
            self._progress.measure(database, head, checkpoint)
            self._declare()
            session = _Session(
                self.partition,
                self._settings,
                database,
                checkpoint,
                stop=self._stop,
                progress=self._progress,
            )
            session.furthest = self._furthest
            session.on_progress = self._on_progress
            try:
                session.run()
            finally:
                self._furthest = session.furthest

    def _on_progress(self) -> None:
        self._waiting_for = None
        self._pauses.succeeded()

    def _take_the_lead(self, database: Connection[Any]) -> bool:
        parameters = {"lock": RELAY_LOCK, **self._key}
        while not self._stop.is_set():
            row = database.execute(LEAD, parameters).fetchone()
            if row is not None and row[0]:
                return True
            self._progress.stand_by()
            self._waiting_for = None  # a standby is healthy
            self._stop.wait(LEAD_RETRY_SECONDS)
        return False

    def _read_checkpoint(self, database: Connection[Any]) -> int:
        row = database.execute(READ_CHECKPOINT, self._key).fetchone()
        if row is None:
            raise LostPlaceError(f"the log has no partition {self.partition}")
        return int(row[0])

    def _declare(self) -> None:
        url = self._settings.required("broker_url")
        with (
            blocking_connection(url, "event_relay topology") as connection,
            deadline(connection, REQUEST_DEADLINE_SECONDS),
        ):
            channel = connection.channel()
            declare_dead_letters(channel)
            for subscription in self._subscriptions:
                declare_subscription(
                    channel, subscription, [self.partition], self._settings.partitions
                )


def describe(error: Exception) -> str:
    """What went wrong, without values of events."""
    if isinstance(error, psycopg.Error):
        return f"{type(error).__name__} {error.sqlstate or ''}".strip()
    return f"{type(error).__name__}: {error}"


class _BatchingConnection(pika.SelectConnection):  # type: ignore[misc]  # pika is not typed
    """Hands what is published together to the socket together.

    pika sends each of a message's three frames on its own, and the system calls cost more than all
    the rest of publishing. This reaches into pika (pinned): where it no longer did, publishing
    would only be slower.
    """

    _pieces: list[bytes] | None = None

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is published inside leaves at the end, in pieces of moderate size."""
        self._pieces = []
        try:
            yield
        finally:
            pieces, self._pieces = self._pieces, None
            if pieces:
                self._adapter_emit_data(b"".join(pieces))

    def _adapter_emit_data(self, data: bytes) -> None:
        if self._pieces is None:
            super()._adapter_emit_data(data)
        else:
            self._pieces.append(data)


class _Session:
    """One connection to the broker, from the checkpoint on, until something goes wrong.

    Everything here runs in one thread, in callbacks of pika's loop; the first failure is kept and
    ends the loop.
    """

    def __init__(
        self,
        partition: int,
        settings: Settings,
        database: Connection[Any],
        checkpoint: int,
        *,
        stop: threading.Event,
        progress: Progress,
    ) -> None:
        self._partition = partition
        self._settings = settings
        self._progress = progress
        self._database = database
        self._cursor = database.cursor(binary=True)
        self._stop = stop
        self._traces = telemetry.current()
        self._spans: deque[tuple[int, Any]] = deque()
        self._saved = checkpoint
        self._published = checkpoint
        self._confirmed = ConfirmedPrefix(checkpoint)
        self._last_progress = time.monotonic()
        self._waiting: deque[Message] = deque()
        self._rests = Rests(settings.idle_poll_seconds)
        self._channel: Channel | None = None
        self._failure: Exception | None = None
        self._pump_is_due = False
        self._save_is_due = False
        self._is_ending = False
        self.furthest = 0
        self.on_progress: Callable[[], None] = lambda: None
        url = settings.required("broker_url")
        self._connection = _BatchingConnection(
            parameters(url, f"event_relay {partition}"),
            on_open_callback=self._on_open,
            on_open_error_callback=self._on_closed,
            on_close_callback=self._on_closed,
        )
        self._loop: Any = self._connection.ioloop

    def run(self) -> None:
        """Relay until stopped.

        Raises:
            AMQPError, OSError, InDoubtError, psycopg.Error, LostPlaceError, LogMismatchError:
                what ended it.
        """
        try:
            self._loop.call_later(WATCH_SECONDS, self._watch)
            self._loop.start()
            if self._failure is None:
                self._save()
        finally:
            self._close()
            self._end_spans(self._published)
        if self._failure is not None:
            raise self._failure

    def _close(self) -> None:
        self._is_ending = True
        if not (self._connection.is_closing or self._connection.is_closed):
            self._connection.close()
        self._run_until_closed()
        if not self._connection.is_closed:
            # pika has no public way to let go of a peer that does not answer.
            self._connection._terminate_stream(InDoubtError("closing took too long"))  # noqa: SLF001
            self._run_until_closed()
        self._loop.close()

    def _run_until_closed(self) -> None:
        if not self._connection.is_closed:
            give_up = self._loop.call_later(CLOSE_DEADLINE_SECONDS, self._loop.stop)
            self._loop.start()
            self._loop.remove_timeout(give_up)

    def _fail(self, error: Exception) -> None:
        self._failure = self._failure or error
        self._loop.stop()

    # Setting up

    def _on_open(self, connection: pika.SelectConnection) -> None:
        connection.channel(on_open_callback=self._on_channel_open)

    def _on_channel_open(self, channel: Channel) -> None:
        channel.add_on_close_callback(self._on_closed)
        channel.add_on_return_callback(self._on_return)
        channel.confirm_delivery(self._on_confirm, callback=self._on_confirming)
        self._channel = channel

    def _on_confirming(self, _frame: object) -> None:
        self._progress.lead()
        self._schedule_pump(0)

    def _on_closed(self, closed: object, reason: BaseException) -> None:
        if self._is_ending:
            if closed is self._connection:
                self._loop.stop()
            return
        cause = reason if isinstance(reason, AMQPError | OSError) else InDoubtError(str(reason))
        self._fail(cause)

    def _on_return(self, _channel: Channel, method: Any, *_content: object) -> None:  # noqa: ANN401 - pika's
        self._fail(InDoubtError(f"unroutable: {method.routing_key}"))

    # Publishing

    def _schedule_pump(self, seconds: float) -> None:
        if not self._pump_is_due:
            self._pump_is_due = True
            self._loop.call_later(seconds, self._pump)

    def _pump(self) -> None:
        """Fill the window; when it is full, confirms call again."""
        self._pump_is_due = False
        if self._is_ending:
            return
        room = self._settings.relay_window - (self._published - self._confirmed.position)
        if self._stop.is_set() or room <= 0:
            return
        if not self._waiting:
            self._waiting.extend(self._read())
        found = bool(self._waiting)
        room = min(room, len(self._waiting))
        while room > 0:
            with self._connection.together():
                for _ in range(min(room, TOGETHER)):
                    self._publish(self._waiting.popleft())
            room -= TOGETHER
        if not self._in_flight():
            self._last_progress = time.monotonic()
            self.on_progress()
        if self._in_flight() < self._settings.relay_window:
            self._schedule_pump(self._rests.after(found=found))

    def _read(self) -> list[Message]:
        head = read_head(self._database, self._partition, self._published)
        self._progress.measure(self._database, head, self._confirmed.position)
        if head == self._published:
            return []
        chunk = {
            "partition": self._partition,
            "after": self._published,
            "limit": self._settings.relay_window,
        }
        rows = self._cursor.execute(READ_MESSAGES, chunk, prepare=True).fetchall()
        if not rows:
            raise LostPlaceError(f"the log has nothing above {self._published}")
        return [Message._make(row) for row in rows]

    def _publish(self, message: Message) -> None:
        assert self._channel is not None, "publishing begins when the channel is open"  # noqa: S101
        if message.position != self._published + 1:
            raise LostPlaceError(f"the log lacks position {self._published + 1}")
        self._channel.basic_publish(
            EVENTS,
            message.topic,
            message.body.encode(),
            message.properties(self._partition, self._begin_span(message)),
            mandatory=True,
        )
        self._published = message.position
        if message.position <= self.furthest:
            REPUBLISHED.labels(self._partition).inc()
        else:
            self.furthest = message.position

    def _begin_span(self, message: Message) -> str | None:
        """Note when this message was sent; what its consumers do is then a part of that."""
        if self._traces is None or message.traceparent is None:
            return message.traceparent
        span = self._traces.publishing(
            message.traceparent, message.topic, self._partition, message.position
        )
        self._spans.append((message.position, span))
        return self._traces.traceparent(span)

    def _end_spans(self, until: int) -> None:
        """Note that messages have been confirmed, or, at the end, that they are in doubt."""
        while self._spans and self._spans[0][0] <= until:
            position, span = self._spans.popleft()
            span.set_attribute("orderly.confirmed", position <= self._confirmed.position)
            span.end()

    def _in_flight(self) -> int:
        return self._published - self._confirmed.position

    # Confirms

    def _on_confirm(self, frame: Any) -> None:  # noqa: ANN401 - pika's
        if self._failure is not None:
            # A message that came back as unroutable is confirmed all the same, right after.
            return
        method = frame.method
        if isinstance(method, pika.spec.Basic.Nack):
            self._fail(InDoubtError("the broker refused a message"))
            return
        self._confirmed.confirm(method.delivery_tag, multiple=method.multiple)
        self._end_spans(self._confirmed.position)
        self._last_progress = time.monotonic()
        if not self._save_is_due:
            self._save_is_due = True
            self._loop.call_later(SAVE_INTERVAL_SECONDS, self._save_and_go_on)
        # Half a window at a time: reading and publishing in small pieces costs more.
        if self._in_flight() * 2 <= self._settings.relay_window:
            self._schedule_pump(0)

    def _save_and_go_on(self) -> None:
        self._save_is_due = False
        if not self._is_ending:
            self._save()
            self.on_progress()

    def _save(self) -> None:
        if self._confirmed.position == self._saved:
            return
        failpoint("relay_after_publish")
        step = {
            "partition": self._partition,
            "old": self._saved,
            "new": self._confirmed.position,
        }
        if self._cursor.execute(MOVE_CHECKPOINT, step, prepare=True).rowcount != 1:
            raise LostPlaceError(f"the checkpoint is no longer at {self._saved}")
        self._saved = self._confirmed.position
        self._progress.arrive(self._saved)

    # Watching

    def _watch(self) -> None:
        """End the loop when asked to, or when the broker has been silent for too long."""
        silence = time.monotonic() - self._last_progress
        if self._stop.is_set() and (not self._in_flight() or silence > DRAIN_DEADLINE_SECONDS):
            self._loop.stop()
        elif self._in_flight() and silence > CONFIRM_DEADLINE_SECONDS:
            self._fail(InDoubtError(f"no confirm for {CONFIRM_DEADLINE_SECONDS} s"))
        else:
            self._loop.call_later(WATCH_SECONDS, self._watch)


def relay_team(settings: Settings, subscriptions: Sequence[Subscription]) -> Team:
    """One relay per partition; nobody when there is no broker.

    Args:
        settings: addresses, partitions, window.
        subscriptions: see `PartitionRelay`.
    """
    stop = threading.Event()
    partitions = settings.worked_partitions if settings.broker_url else ()
    relays = [PartitionRelay(each, settings, subscriptions, stop) for each in partitions]
    return Team(
        [Worker(f"event_relay.{relay.partition}", relay.run, stop=stop) for relay in relays],
        [relay.what_is_missing for relay in relays],
    )
