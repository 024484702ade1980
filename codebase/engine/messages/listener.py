"""A consumer on one queue that comes back whatever happens to the broker."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pika
from pika.adapters.blocking_connection import BlockingChannel

from codebase.engine.messages.connection import (
    BROKER_ERRORS,
    REQUEST_DEADLINE_SECONDS,
    NoAnswerError,
    abandon,
    blocking_connection,
    deadline,
    what_the_broker_does,
)
from codebase.engine.messages.dead_letters import declare_dead_letters
from codebase.foundation.backoff import Pauses

logger = logging.getLogger(__name__)

TURN_SECONDS = 1.0
"""The longest that the listening thread waits before it looks whether it should stop."""
PREFETCH_MAX = 65_535

Order = Callable[[BlockingChannel, BlockingChannel], None]
"""What the thread shall do on its channels: the consumer's, and one with confirms."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A message that waits for its acknowledgement.

    `connection` counts connections: `tag` means something only on the one that it came by.
    Properties that the sender left out, or that are no text, are None.
    """

    connection: int
    tag: int
    routing_key: str
    body: bytes
    exchange: str = ""
    message_id: str | None = None
    correlation_id: str | None = None
    reply_to: str | None = None
    traceparent: str | None = None


@dataclass(frozen=True, kw_only=True)
class QueueToListenTo:
    """Which queue, and how much of it at a time.

    Args:
        name: of the queue.
        declare: makes it, and what leads to it; called on each new connection.
        prefetch: how many messages may wait for their acknowledgement.
        expendable: whether what the queue holds can be had elsewhere, so that a queue that the
            broker has broken may be deleted and made anew.
    """

    name: str
    declare: Callable[[BlockingChannel], None]
    prefetch: int
    expendable: bool = False


class QueueListener:
    """Listens in a thread of its own, which serves heartbeats whatever is done with the messages.

    Acknowledging, publishing and everything else on the connection is for that thread; others
    give it orders. An order for a connection that is gone is forgotten: its broker delivers the
    messages again.

    Args:
        url: of the broker.
        queue: to listen to.
        take: called in the listening thread with the messages that came in together.
        begun: called in the listening thread when there is a new connection, before its messages.
        ended: called in the listening thread when a connection is gone.
    """

    def __init__(
        self,
        url: str,
        queue: QueueToListenTo,
        take: Callable[[list[Arrival]], None],
        *,
        begun: Callable[[], None] = lambda: None,
        ended: Callable[[], None] = lambda: None,
    ) -> None:
        self._url = url
        self._queue = queue
        self._take = take
        self._begun = begun
        self._ended = ended
        self._number = 0
        self._connection: pika.BlockingConnection | None = None
        self._seems_dead = False
        self._arrivals: list[Arrival] = []
        self._orders: deque[tuple[int, Order]] = deque()

    @property
    def is_listening(self) -> bool:
        """Whether there is a connection, as far as anybody knows."""
        return self._connection is not None

    @property
    def connection(self) -> int | None:
        """Which connection there is, as far as anybody knows, for orders; None: there is none."""
        return self._number if self._connection is not None else None

    def is_current(self, connection: int) -> bool:
        """Whether messages of this connection can still be acknowledged."""
        return self._connection is not None and connection == self._number

    def order(self, connection: int, order: Order) -> None:
        """Have the listening thread do something, if the connection is still the same then."""
        self._orders.append((connection, order))
        self.interrupt()

    def interrupt(self) -> None:
        """End a wait of the listening thread."""
        connection = self._connection
        if connection is not None:
            # Closed in this moment? Then what was ordered comes again.
            with suppress(*BROKER_ERRORS):
                connection.add_callback_threadsafe(lambda: None)

    # The listening thread

    def listen(self, stop: threading.Event) -> None:
        """Keep a consumer on the queue until stopped."""
        pauses = Pauses(stop)
        while not stop.is_set():
            try:
                with self._consumer() as (connection, channel, letters):
                    pauses.succeeded()
                    while not stop.is_set():
                        connection.process_data_events(TURN_SECONDS)
                        self._hand_over()
                        self._carry_out(channel, letters)
                    self._carry_out(channel, letters)
                    # Answered when the broker has got all that was sent before, acknowledgements
                    # that nobody answers included.
                    with deadline(connection, REQUEST_DEADLINE_SECONDS):
                        channel.basic_qos(prefetch_count=1)
            except BROKER_ERRORS as error:
                # What a broker says when it refuses is of queues and users, never of messages.
                problem = what_the_broker_does(error)
                logger.warning("queue %s: %s: %s", self._queue.name, problem, error)
                pauses.pause()

    @contextmanager
    def _consumer(
        self,
    ) -> Iterator[tuple[pika.BlockingConnection, BlockingChannel, BlockingChannel]]:
        with blocking_connection(self._url, self._queue.name) as connection:
            with deadline(connection, REQUEST_DEADLINE_SECONDS):
                letters = self._declare(connection)
            channel = connection.channel()
            channel.basic_qos(prefetch_count=min(self._queue.prefetch, PREFETCH_MAX))
            channel.add_on_cancel_callback(self._on_cancel)
            self._begin()
            self._subscribe(connection, channel)
            self._connection = connection
            try:
                yield connection, channel, letters
            finally:
                self._connection = None
                self._ended()
                if not self._queue.expendable:
                    abandon(connection)

    def _declare(self, connection: pika.BlockingConnection) -> BlockingChannel:
        letters = connection.channel()
        letters.confirm_delivery()
        declare_dead_letters(letters)
        if self._seems_dead:
            logger.warning("the queue does not answer; it is made anew")
            letters.queue_delete(self._queue.name)
            self._seems_dead = False
        self._queue.declare(letters)
        return letters

    def _begin(self) -> None:
        self._number += 1
        self._arrivals = []
        self._orders.clear()
        self._begun()

    def _subscribe(self, connection: pika.BlockingConnection, channel: BlockingChannel) -> None:
        """Start consuming.

        A quorum queue whose broker was killed seconds after the queue was first declared comes
        back as a name without a process, and never answers (seen with 3.10.8). An expendable
        queue is then made anew; for any other that is for the operator to decide.
        """
        try:
            with deadline(connection, REQUEST_DEADLINE_SECONDS):
                channel.basic_consume(self._queue.name, self._on_message)
        except NoAnswerError:
            # Only silence: a broker that refuses, or goes away, has not lost the queue.
            self._seems_dead = self._queue.expendable
            logger.warning("queue %s does not answer", self._queue.name)
            raise

    def _on_cancel(self, _frame: object) -> None:
        """The queue was deleted, or its leader is gone: connect again, declare it again."""
        raise pika.exceptions.ConsumerCancelled

    def _on_message(
        self,
        _channel: BlockingChannel,
        method: Any,  # noqa: ANN401 - pika's
        properties: pika.BasicProperties,
        body: bytes,
    ) -> None:
        arrival = Arrival(
            connection=self._number,
            tag=method.delivery_tag,
            routing_key=_text(method.routing_key) or "",
            body=body,
            exchange=_text(method.exchange) or "",
            message_id=_text(properties.message_id),
            traceparent=_text((properties.headers or {}).get("traceparent")),
            correlation_id=_text(properties.correlation_id),
            reply_to=_text(properties.reply_to),
        )
        self._arrivals.append(arrival)

    def _hand_over(self) -> None:
        """Hand all messages that came in together over together."""
        if self._arrivals:
            arrivals, self._arrivals = self._arrivals, []
            self._take(arrivals)

    def _carry_out(self, channel: BlockingChannel, letters: BlockingChannel) -> None:
        while self._orders:
            connection, order = self._orders.popleft()
            if connection == self._number:
                order(channel, letters)


def _text(value: object) -> str | None:
    """What pika could decode; it leaves a text that is no UTF-8 as the bytes that it is."""
    return value if isinstance(value, str) else None
