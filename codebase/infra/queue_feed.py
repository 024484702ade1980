"""The feed that listens to a queue, and looks at the log when the queue is silent or away."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pika
from pika.adapters.blocking_connection import BlockingChannel
from pydantic import TypeAdapter, ValidationError

from codebase.infra.broker import (
    BROKER_ERRORS,
    REQUEST_DEADLINE_SECONDS,
    NoAnswerError,
    Subscription,
    blocking_connection,
    dead_letter,
    deadline,
    declare_dead_letters,
    declare_subscription,
)
from codebase.infra.feeds import Delivery, Notice
from codebase.infra.settings import Settings
from codebase.infra.worker import Pauses, Rests

logger = logging.getLogger(__name__)

TURN_SECONDS = 1.0
"""The longest that the listening thread waits before it looks whether it should stop."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """What every message's body says of its event; the event's own data is not looked at."""

    event_id: UUID
    stream_id: UUID
    partition: int
    position: int


ENVELOPE = TypeAdapter(Envelope)


def read_notice(body: bytes) -> Notice:
    """What a message says of itself.

    Raises:
        ValueError: it is not a message of ours; the text names the field, and repeats nothing.
    """
    try:
        envelope = ENVELOPE.validate_json(body)
    except ValidationError as error:
        first = error.errors(include_input=False, include_context=False, include_url=False)[0]
        field = ".".join(map(str, first["loc"])) or "body"
        raise ValueError(f"{field}: {first['type']}") from error
    return Notice(
        partition=envelope.partition,
        position=envelope.position,
        stream_id=envelope.stream_id,
        event_id=envelope.event_id,
    )


class QueueFeed:
    """Listens in a thread of its own, which serves heartbeats whatever the projector does.

    While the broker cannot be reached the log is polled; the listening thread tries to connect in
    the background.

    Args:
        subscription: of the projector.
        partition: whose queue this is.
        settings: address, batch size, waits.
        stop: ends everything.
    """

    def __init__(
        self,
        subscription: Subscription,
        partition: int,
        settings: Settings,
        stop: threading.Event,
    ) -> None:
        self._subscription = subscription
        self._partition = partition
        self._settings = settings
        self._stop = stop
        self._changed = threading.Condition()
        self._deliveries: deque[Delivery] = deque()
        self._rests = Rests(settings.idle_poll_seconds)
        # Counts connections: a delivery tag means something only on the one that it came by.
        self._connection_number = 0
        self._connection: pika.BlockingConnection | None = None
        self._seems_dead = False
        # Nobody listens, and nothing is declared, before the projector knows the log for its own.
        self._wanted = threading.Event()
        self._orders: deque[Callable[[BlockingChannel, BlockingChannel], None]] = deque()

    # For the projector's thread

    @property
    def waiting_for(self) -> str | None:
        """What keeps the feed from listening, or None."""
        return None if self._connection is not None else "the broker"

    def open(self) -> None:
        """Let the listening thread begin."""
        self._wanted.set()

    def take(self, *, found: bool) -> Sequence[Delivery]:
        """Messages as soon as there are some; none when it is time to look at the log."""
        rest = self._rests.after(found=found)
        if self._connection is None:
            self._stop.wait(rest)
        with self._changed:
            patience = 0 if found else self._settings.read_model_check_seconds
            self._changed.wait_for(self._is_worth_waking, patience)
            count = min(len(self._deliveries), self._settings.projector_batch)
            return [self._deliveries.popleft() for _ in range(count)]

    def _is_worth_waking(self) -> bool:
        return bool(self._deliveries) or self._connection is None or self._stop.is_set()

    def settle(self, taken: Sequence[Delivery], rejected: Sequence[tuple[Delivery, str]]) -> None:
        """Have the listening thread dead-letter `rejected` and then acknowledge `taken`."""
        if not taken:
            return
        number = taken[-1].connection
        queue = self._subscription.queue(self._partition)

        def settle_on(channel: BlockingChannel, letters: BlockingChannel) -> None:
            if number != self._connection_number:
                return  # that connection is gone, and the broker delivers these again
            for delivery, reason in rejected:
                dead_letter(letters, queue, delivery.routing_key, delivery.body, reason)
            channel.basic_ack(taken[-1].tag, multiple=True)

        self._orders.append(settle_on)
        self._interrupt()

    def wake(self) -> None:
        """End a wait in `take` and in the listening thread."""
        self._wanted.set()
        with self._changed:
            self._changed.notify_all()
        self._interrupt()

    def _interrupt(self) -> None:
        connection = self._connection
        if connection is not None:
            # Closed in this moment? Then what was ordered comes again.
            with suppress(*BROKER_ERRORS):
                connection.add_callback_threadsafe(lambda: None)

    # The listening thread

    def listen(self, stop: threading.Event) -> None:
        """Keep a consumer on the queue until stopped, from `open` on."""
        self._wanted.wait()
        pauses = Pauses(stop)
        while not stop.is_set():
            try:
                with self._consumer() as (connection, channel, letters):
                    pauses.succeeded()
                    while not stop.is_set():
                        connection.process_data_events(TURN_SECONDS)
                        self._hand_over()
                        self._carry_out(channel, letters)
            except BROKER_ERRORS as error:
                logger.warning("the broker is away: %s", type(error).__name__)
                pauses.pause()

    @contextmanager
    def _consumer(
        self,
    ) -> Iterator[tuple[pika.BlockingConnection, BlockingChannel, BlockingChannel]]:
        name = self._subscription.queue(self._partition)
        url = self._settings.required("broker_url")
        with blocking_connection(url, name) as connection:
            with deadline(connection, REQUEST_DEADLINE_SECONDS):
                letters = self._declare(connection)
            channel = connection.channel()
            # One batch is being applied while the next one comes in.
            channel.basic_qos(prefetch_count=min(2 * self._settings.projector_batch, 65_535))
            channel.add_on_cancel_callback(self._on_cancel)
            self._forget_what_was_delivered()
            self._subscribe(connection, channel)
            self._connection = connection
            try:
                yield connection, channel, letters
            finally:
                self._end()

    def _declare(self, connection: pika.BlockingConnection) -> BlockingChannel:
        letters = connection.channel()
        letters.confirm_delivery()
        declare_dead_letters(letters)
        if self._seems_dead:
            logger.warning("the queue does not answer; it is made anew")
            letters.queue_delete(self._subscription.queue(self._partition))
            self._seems_dead = False
        declare_subscription(
            letters, self._subscription, [self._partition], self._settings.partitions
        )
        return letters

    def _subscribe(self, connection: pika.BlockingConnection, channel: BlockingChannel) -> None:
        """Start consuming.

        A quorum queue whose broker was killed seconds after the queue was first declared comes
        back as a name without a process, and never answers (seen with 3.10.8). Such a queue is
        made anew, which loses nothing: what it held is in the log.
        """
        try:
            with deadline(connection, REQUEST_DEADLINE_SECONDS):
                channel.basic_consume(self._subscription.queue(self._partition), self._on_message)
        except NoAnswerError:
            # Only silence: a broker that refuses, or goes away, has not lost the queue.
            self._seems_dead = True
            raise

    def _forget_what_was_delivered(self) -> None:
        with self._changed:
            self._connection_number += 1
            self._deliveries.clear()
            self._orders.clear()

    def _end(self) -> None:
        with self._changed:
            self._connection = None
            # The projector polls the log from now on, and begins at once.
            self._changed.notify_all()

    def _on_cancel(self, _frame: object) -> None:
        """The queue was deleted, or its leader is gone: connect again, declare it again."""
        raise pika.exceptions.ConsumerCancelled

    def _on_message(
        self,
        _channel: BlockingChannel,
        method: Any,  # noqa: ANN401 - pika's
        _properties: object,
        body: bytes,
    ) -> None:
        notice, problem = None, None
        try:
            notice = read_notice(body)
        except ValueError as error:
            problem = str(error)
        delivery = Delivery(
            connection=self._connection_number,
            tag=method.delivery_tag,
            routing_key=method.routing_key,
            body=body,
            notice=notice,
            problem=problem,
        )
        self._deliveries.append(delivery)

    def _hand_over(self) -> None:
        """Wake the projector once for all messages that came in together."""
        if self._deliveries:
            with self._changed:
                self._changed.notify_all()

    def _carry_out(self, channel: BlockingChannel, letters: BlockingChannel) -> None:
        while self._orders:
            self._orders.popleft()(channel, letters)
