"""The feed that listens to a queue, and looks at the log when the queue is silent or away."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from pika.adapters.blocking_connection import BlockingChannel
from prometheus_client import Counter
from pydantic import TypeAdapter, ValidationError

from codebase.engine.messages.dead_letters import dead_letter
from codebase.engine.messages.listener import Arrival, QueueListener, QueueToListenTo
from codebase.engine.messages.topology import (
    EVENTS,
    POSITIONS,
    declare_projector_queue,
    projector_queue,
    remove_projector_queue,
)
from codebase.engine.projections.feed import Delivery, Notice
from codebase.engine.projections.projection import Projector
from codebase.foundation.backoff import Rests
from codebase.foundation.settings import Settings

DEAD_LETTERED = Counter(
    "orderly_projection_messages_dead_lettered",
    "Messages that did not tell of an event of the log.",
    ["queue"],
)


@dataclass(frozen=True, slots=True)
class Envelope:
    """What a message's body says of an event: an announcement, or the event of a release before."""

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
    """Messages of one queue, taken in by a listening thread.

    While the broker cannot be reached the log is polled; the listening thread tries to connect in
    the background.

    The queue may be one that an earlier release has bound to every event. Its messages are as good
    as announcements, only many more. Once a relay announces they are of no use, and the queue is
    made anew, without that binding.

    Args:
        projector: who is told, and of which categories.
        partition: whose queue this is.
        settings: address, batch size, waits.
        stop: ends everything.
    """

    def __init__(
        self,
        projector: Projector,
        partition: int,
        settings: Settings,
        stop: threading.Event,
    ) -> None:
        self._projector = projector
        self._partition = partition
        self._settings = settings
        self._stop = stop
        self._changed = threading.Condition()
        self._deliveries: deque[Delivery] = deque()
        self._rests = Rests(settings.idle_poll_seconds)
        self._is_announced_to = False
        self._missed_something = False
        # Nobody listens, and nothing is declared, before the projector knows the log for its own.
        self._wanted = threading.Event()
        self._queue = QueueToListenTo(
            name=projector_queue(projector.name, partition),
            declare=self._declare,
            # One batch is being applied while the next one comes in.
            prefetch=2 * settings.projector_batch,
            # What it holds is in the log.
            expendable=True,
        )
        DEAD_LETTERED.labels(self._queue.name)
        self._listener = QueueListener(
            settings.required("broker_url"),
            self._queue,
            self._on_arrivals,
            begun=self._begin_anew,
            ended=self._notify,
        )

    # For the projector's thread

    def open(self) -> None:
        """Let the listening thread begin."""
        self._wanted.set()

    def take(self, *, found: bool) -> Sequence[Delivery]:
        """Messages as soon as there are some; none when it is time to look at the log."""
        rest = self._rests.after(found=found)
        if not self._listener.is_listening:
            self._stop.wait(rest)
        with self._changed:
            patience = 0 if found else self._settings.read_model_check_seconds
            self._changed.wait_for(self._is_worth_waking, patience)
            self._missed_something = False
            count = min(len(self._deliveries), self._settings.projector_batch)
            return [self._deliveries.popleft() for _ in range(count)]

    def _is_worth_waking(self) -> bool:
        return (
            bool(self._deliveries)
            or self._missed_something
            or not self._listener.is_listening
            or self._stop.is_set()
        )

    def settle(self, taken: Sequence[Delivery], rejected: Sequence[tuple[Delivery, str]]) -> None:
        """Have the listening thread dead-letter `rejected` and then acknowledge `taken`."""
        if not taken:
            return
        last = taken[-1]

        def settle_on(channel: BlockingChannel, letters: BlockingChannel) -> None:
            for delivery, reason in rejected:
                DEAD_LETTERED.labels(self._queue.name).inc()
                dead_letter(letters, self._queue.name, delivery.routing_key, delivery.body, reason)
            channel.basic_ack(last.tag, multiple=True)

        self._listener.order(last.connection, settle_on)

    def wake(self) -> None:
        """End a wait in `take` and in the listening thread."""
        self._wanted.set()
        self._notify()
        self._listener.interrupt()

    # The listening thread

    def listen(self, stop: threading.Event) -> None:
        """Keep a consumer on the queue until stopped, from `open` on."""
        self._wanted.wait()
        self._listener.listen(stop)

    def _declare(self, channel: BlockingChannel) -> None:
        declare_projector_queue(
            channel, self._projector.name, self._projector.categories, self._partition
        )

    def _begin_anew(self) -> None:
        self._is_announced_to = False
        with self._changed:
            self._deliveries.clear()
            # Of what was announced while there was no queue: the log is looked at once more.
            self._missed_something = True

    def _on_arrivals(self, arrivals: list[Arrival]) -> None:
        """Wake the projector once for all messages that came in together."""
        self._see_who_publishes(arrivals)
        deliveries = [_delivery(arrival) for arrival in arrivals]
        with self._changed:
            self._deliveries.extend(deliveries)
            self._changed.notify_all()

    def _see_who_publishes(self, arrivals: Sequence[Arrival]) -> None:
        for arrival in arrivals:
            if arrival.exchange == POSITIONS:
                self._is_announced_to = True
            elif arrival.exchange == EVENTS and self._is_announced_to:
                self._listener.order(arrival.connection, self._leave_events)
                return

    def _leave_events(self, _channel: BlockingChannel, letters: BlockingChannel) -> None:
        """Without its queue the listening thread comes back, and declares it anew."""
        remove_projector_queue(letters, self._projector.name, self._partition)

    def _notify(self) -> None:
        """The projector looks again: at whether to stop, or to poll the log from now on."""
        with self._changed:
            self._changed.notify_all()


def _delivery(arrival: Arrival) -> Delivery:
    notice, problem = None, None
    try:
        notice = read_notice(arrival.body)
    except ValueError as error:
        problem = str(error)
    return Delivery(
        connection=arrival.connection,
        tag=arrival.tag,
        routing_key=arrival.routing_key,
        body=arrival.body,
        notice=notice,
        problem=problem,
    )
