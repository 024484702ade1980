"""One connection of the relay to the broker, from a checkpoint on, until something goes wrong."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import pika
from pika.channel import Channel
from pika.exceptions import AMQPError
from prometheus_client import Counter
from psycopg import Connection

from codebase.engine.log.check import read_head
from codebase.engine.log.growth import Growth
from codebase.engine.messages.batching_connection import BatchingConnection
from codebase.engine.messages.confirmed_prefix import ConfirmedPrefix
from codebase.engine.messages.connection import parameters
from codebase.engine.messages.event_frames import frames, properties
from codebase.engine.messages.event_messages import Message, read_messages
from codebase.engine.messages.relay_checkpoint import LostPlaceError, move_checkpoint
from codebase.engine.messages.topology import EVENTS, POSITIONS, positions_key
from codebase.foundation.backoff import Rests
from codebase.foundation.failpoints import failpoint
from codebase.foundation.observability import telemetry
from codebase.foundation.progress import Progress
from codebase.foundation.settings import Settings

SAVE_INTERVAL_SECONDS = 0.05
"""Confirms come in bursts; the checkpoint is written once for all that came in this time."""
CONFIRM_DEADLINE_SECONDS = 10.0
TOGETHER = 50
"""Messages that go to the socket in one piece, about 50 kB."""
GATHER_SECONDS, LONG_GATHER_SECONDS = 0.005, 0.02
"""The rest after a look that found little. What is written meanwhile is read, sent, announced and
projected together, which takes a fraction of the processor time: where much is written it is worth
more than being there at once."""
MUCH_PER_SECOND = 2_000
LONGEST_REST_SECONDS = 1.0
"""Without a word from those who append: an event may come into the log by another way."""
DRAIN_DEADLINE_SECONDS = 1.0
CLOSE_DEADLINE_SECONDS = 2.0
WATCH_SECONDS = 0.1

REPUBLISHED = Counter(
    "orderly_relay_republished_events",
    "Events published again, because their fate was in doubt.",
    ["partition"],
)


class InDoubtError(Exception):
    """The broker did not confirm; what was in flight may or may not have arrived."""


def gather_seconds(found: int, since_seconds: float) -> float:
    """How long to let events gather, after a look that found so many of so many seconds."""
    is_much = found > MUCH_PER_SECOND * since_seconds
    return LONG_GATHER_SECONDS if is_much else GATHER_SECONDS


class RelaySession:
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
        self._growth = Growth(database, partition, self._wake)
        self._looked_at = time.monotonic()
        self._channel: Channel | None = None
        self._announcing: Channel | None = None
        self._failure: Exception | None = None
        self._next_pump: Any = None
        self._listens_on: int | None = None
        self._save_is_due = False
        self._is_ending = False
        self.furthest = 0
        self.on_progress: Callable[[], None] = lambda: None
        url = settings.required("broker_url")
        self._connection = BatchingConnection(
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
        connection.channel(on_open_callback=self._on_announcing)

    def _on_announcing(self, channel: Channel) -> None:
        # A channel of its own, so that confirms count events only.
        channel.add_on_close_callback(self._on_closed)
        self._announcing = channel
        self._connection.channel(on_open_callback=self._on_channel_open)

    def _on_channel_open(self, channel: Channel) -> None:
        channel.add_on_close_callback(self._on_closed)
        channel.confirm_delivery(self._on_confirm, callback=self._on_confirming)
        self._connection.take_confirms_together(channel.channel_number, self._confirmed.confirm)
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

    # Publishing

    def _schedule_pump(self, seconds: float) -> None:
        if self._next_pump is None:
            self._next_pump = self._loop.call_later(seconds, self._pump)

    def _pump(self) -> None:
        """Fill the window; when it is full, confirms call again."""
        self._next_pump = None
        if self._is_ending or self._failure is not None:
            return
        self._listen_no_more()
        room = self._settings.relay_window - (self._published - self._confirmed.position)
        if self._stop.is_set() or room <= 0:
            return
        if not self._waiting:
            self._waiting.extend(self._read())
        before, self._looked_at = self._looked_at, time.monotonic()
        if not self._in_flight():
            self._last_progress = self._looked_at
        found = len(self._waiting)
        if found:
            self._growth.stay_awake()
            self._publish_together([self._waiting.popleft() for _ in range(room) if self._waiting])
        if not self._in_flight():
            self.on_progress()
        if self._in_flight() < self._settings.relay_window:
            self._go_on(found, self._looked_at - before)

    def _go_on(self, found: int, since_seconds: float) -> None:
        """Look again, after a rest that depends on what this look has found."""
        rest = self._rests.after(found=found > 0)
        if 0 < found * 2 <= self._settings.relay_window:
            rest = gather_seconds(found, since_seconds)
        elif self._growth.is_resting:
            rest = self._listen()
        elif rest >= self._settings.idle_poll_seconds and self._growth.rest():
            # What was being written until now, of which nobody tells.
            rest = 0
        self._schedule_pump(rest)

    # Resting

    def _listen(self) -> float:
        """For how long to rest, unless somebody tells of an event."""
        if self._growth.take_news():
            # It came with an answer that was asked for before.
            return 0
        self._listens_on = self._database.fileno()
        # What has come is taken in by the look that follows; a broken connection fails there.
        self._loop.add_handler(self._listens_on, lambda *_: self._wake(), self._loop.READ)
        return LONGEST_REST_SECONDS

    def _listen_no_more(self) -> None:
        if self._listens_on is not None:
            self._loop.remove_handler(self._listens_on)
            self._listens_on = None

    def _wake(self) -> None:
        """End a rest; who does not rest looks for news before the next one."""
        if self._listens_on is not None:
            self._listen_no_more()
            self._loop.remove_timeout(self._next_pump)
            self._next_pump = None
            self._schedule_pump(0)

    def _read(self) -> list[Message]:
        head = read_head(self._database, self._partition, self._published)
        self._progress.measure(self._database, head, self._confirmed.position)
        if head == self._published:
            return []
        limit = self._settings.relay_window
        return read_messages(self._cursor, self._partition, after=self._published, limit=limit)

    def _publish_together(self, messages: Sequence[Message]) -> None:
        for begin in range(0, len(messages), TOGETHER):
            with self._connection.together():
                for message in messages[begin : begin + TOGETHER]:
                    self._publish(message)
                if begin + TOGETHER >= len(messages):
                    self._announce(messages)

    def _announce(self, messages: Sequence[Message]) -> None:
        """Tell projectors how far the log goes, once for all messages.

        Whether it arrives is not asked: they look by themselves when they have heard nothing.
        """
        assert self._announcing is not None, "it was opened before the other"  # noqa: S101
        first, *others = sorted(
            {positions_key(message.category, self._partition) for message in messages}
        )
        # The broker looks at all of these keys, and gives a queue one copy.
        also = pika.BasicProperties(headers={"CC": others} if others else None)
        body = messages[-1].announcement(self._partition)
        self._announcing.basic_publish(POSITIONS, first, body, also)

    def _publish(self, message: Message) -> None:
        assert self._channel is not None, "publishing begins when the channel is open"  # noqa: S101
        if message.position != self._published + 1:
            raise LostPlaceError(f"the log lacks position {self._published + 1}")
        self._connection.send(
            frames(
                EVENTS,
                message.topic,
                properties(message, self._partition, self._begin_span(message)),
                message.body.encode(),
                channel=self._channel.channel_number,
                body_max=self._connection.body_max,
            )
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
        reached = self._confirmed.position
        move_checkpoint(self._cursor, self._partition, old=self._saved, new=reached)
        self._saved = reached
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
