"""RabbitMQ: how we connect, and the exchanges and queues that publisher and consumers share.

    exchange `events` (topic) ──topics of a subscription──▶ exchange `<subscription>` (headers)
                      ──header `partition`──▶ queue `<subscription>.<partition>`

    exchange `commands` (topic) ──▶ queue `<service>`, of the service that takes them

A log with one partition has nothing to split, and its queues are bound to `events` directly.
An event is published once, under the routing key that its aggregate gave it. Each subscription
splits what it gets by partition, in an exchange of its own, so that routing keys stay clean and
a consumer's queues hold streams in order.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pika
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import AMQPConnectionError, AMQPError, UnroutableError

from codebase.foundation.errors import ServiceUnavailable

# pika logs each failed attempt several times, with tracebacks; whoever connects reports it once.
logging.getLogger("pika").setLevel(logging.CRITICAL)

logger = logging.getLogger(__name__)

EVENTS = "events"
COMMANDS = "commands"
DEAD_LETTERS = "dead_letters"

HEARTBEAT_SECONDS = 10
BLOCKED_DEADLINE_SECONDS = 30
"""A broker that is short of memory or disk stops reading from publishers, without an end."""
CONNECT_DEADLINE_SECONDS = 3
HANDSHAKE_DEADLINE_SECONDS = 8
REQUEST_DEADLINE_SECONDS = 8
"""For a declaration or a subscription; deleting a dead quorum queue takes the broker 5 s."""
PUBLISH_DEADLINE_SECONDS = 5.0
"""For the confirm of a command; whoever sends it is waiting."""

# A peer that vanished is noticed within seconds, also in the middle of a write.
LIVELINESS = {
    "TCP_USER_TIMEOUT": 5_000,
    "TCP_KEEPIDLE": 5,
    "TCP_KEEPINTVL": 2,
    "TCP_KEEPCNT": 3,
}

FIRST_VERSION_WITH_A_LIMIT = 4
"""Of RabbitMQ: from here on a quorum queue drops what it delivered 20 times, unless told not to."""
NO_DELIVERY_LIMIT = -1
"""Only for those versions: the ones before read it as 0, and drop after the first delivery."""

BROKER_ERRORS: tuple[type[Exception], ...] = (AMQPError, OSError)
"""What a broken, refusing or vanished broker looks like."""


class NoAnswerError(AMQPConnectionError):  # type: ignore[misc]  # pika is not typed
    """The broker was silent for longer than a `deadline`, which broke the connection."""


@dataclass(frozen=True, kw_only=True)
class Subscription:
    """Which events a consumer wants; it gets them in one queue per partition.

    Args:
        name: of its exchange, and the first part of its queues' names.
        topics: binding patterns on routing keys, such as `account.*.emea.#`.
    """

    name: str
    topics: tuple[str, ...] = ("#",)

    def queue(self, partition: int) -> str:
        """The name of the queue for one partition."""
        return f"{self.name}.{partition}"


def parameters(url: str, connection_name: str) -> pika.URLParameters:
    """How to connect: every wait has an end.

    Args:
        url: amqp:// or amqps://; what its query string says wins.
        connection_name: shown by the broker's management tools.
    """
    chosen = pika.URLParameters(url)
    given = url.partition("?")[2]
    defaults: dict[str, Any] = {
        "heartbeat": HEARTBEAT_SECONDS,
        "blocked_connection_timeout": BLOCKED_DEADLINE_SECONDS,
        "socket_timeout": CONNECT_DEADLINE_SECONDS,
        "stack_timeout": HANDSHAKE_DEADLINE_SECONDS,
        "tcp_options": LIVELINESS,
    }
    for name, value in defaults.items():
        if f"{name}=" not in given:
            setattr(chosen, name, value)
    chosen.client_properties = {"connection_name": connection_name}
    return chosen


@contextmanager
def blocking_connection(url: str, name: str) -> Iterator[pika.BlockingConnection]:
    """A connection for one thread, closed on leaving.

    Raises:
        AMQPError, OSError: no connection within the deadline.
    """
    connection = pika.BlockingConnection(parameters(url, name))
    try:
        yield connection
    finally:
        close_quietly(connection)


@contextmanager
def deadline(connection: pika.BlockingConnection, seconds: float) -> Iterator[None]:
    """Break the connection when what happens inside takes longer than `seconds`.

    pika waits for the broker's answer to a request without an end, and a broker does not always
    answer. This reaches into pika (pinned): there is no public way to end such a wait.

    Raises:
        NoAnswerError: from the request that was waiting.
    """
    implementation = connection._impl  # noqa: SLF001

    def break_it() -> None:
        with suppress(*BROKER_ERRORS):
            implementation._adapter_add_callback_threadsafe(abort)  # noqa: SLF001

    def abort() -> None:
        if implementation.is_open:
            silence = NoAnswerError(f"no answer within {seconds} s")
            implementation._terminate_stream(silence)  # noqa: SLF001

    timer = threading.Timer(seconds, break_it)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def close_quietly(connection: pika.BlockingConnection) -> None:
    """Close a connection that may be broken already."""
    # Broken while it is being closed is closed all the same.
    with suppress(*BROKER_ERRORS):
        if connection.is_open:
            with deadline(connection, REQUEST_DEADLINE_SECONDS):
                connection.close()


def abandon(connection: pika.BlockingConnection) -> None:
    """Drop a connection that consumes, so that what is not acknowledged goes back in order.

    pika's farewell gives the messages that nobody has seen yet back one by one, ahead of those that
    somebody has: what comes next would be out of order. The broker gives back a lost connection's
    all together. This reaches into pika (pinned): it has no way to leave without that farewell.
    """
    with suppress(*BROKER_ERRORS):
        if connection.is_open:
            connection._impl._terminate_stream(AMQPConnectionError("abandoned"))  # noqa: SLF001
            connection.process_data_events(0)


def declare_queue(channel: BlockingChannel, name: str, *, single_active_consumer: bool) -> None:
    """Declare a durable quorum queue that keeps a message for as long as nobody acknowledges it.

    There must be no delivery limit: it counts what was only prefetched, and drops messages that are
    good. Whoever consumes counts attempts in a store of its own. (rabbitmq-server, pull requests
    11937 and 12250; the broker tells its version when one connects, and pika has no public way to
    ask for it.)
    """
    arguments: dict[str, Any] = {"x-queue-type": "quorum"}
    if single_active_consumer:
        arguments["x-single-active-consumer"] = True
    about = channel.connection._impl.server_properties  # noqa: SLF001
    if int(about["version"].partition(".")[0]) >= FIRST_VERSION_WITH_A_LIMIT:
        arguments["x-delivery-limit"] = NO_DELIVERY_LIMIT
    channel.queue_declare(name, durable=True, arguments=arguments)


def declare_dead_letters(channel: BlockingChannel) -> None:
    """Where messages go that no consumer can use, with the reason in their headers."""
    channel.exchange_declare(DEAD_LETTERS, "topic", durable=True)
    declare_queue(channel, DEAD_LETTERS, single_active_consumer=False)
    channel.queue_bind(DEAD_LETTERS, DEAD_LETTERS, "#")


def declare_subscription(
    channel: BlockingChannel, subscription: Subscription, mine: Iterable[int], partitions: int
) -> None:
    """Declare everything between the publisher and a subscription's queues.

    Publisher and consumer both do, so that neither has to be started first and a broker that lost
    everything is set up again by whoever comes first. Declaring what exists changes nothing.

    Args:
        channel: that may declare.
        subscription: whose queues.
        mine: the partitions whose queues are wanted.
        partitions: how many the log has.
    """
    channel.exchange_declare(EVENTS, "topic", durable=True)
    # With one partition there is nothing to split, and every hop less saves the broker a tenth of
    # what a message costs it.
    is_split = partitions > 1
    if is_split:
        channel.exchange_declare(subscription.name, "headers", durable=True)
        for topic in subscription.topics:
            channel.exchange_bind(subscription.name, EVENTS, topic)
    for partition in mine:
        queue = subscription.queue(partition)
        declare_queue(channel, queue, single_active_consumer=True)
        if is_split:
            match = {"x-match": "all", "partition": partition}
            channel.queue_bind(queue, subscription.name, arguments=match)
        else:
            for topic in subscription.topics:
                channel.queue_bind(queue, EVENTS, topic)


def dead_letter(
    letters: BlockingChannel, queue: str, routing_key: str, body: bytes, reason: str
) -> None:
    """Put aside what no consumer can use; confirmed when this returns.

    Args:
        letters: a channel with confirms.
        queue: that the message came by; also its new routing key.
        routing_key: that it was published with.
        body: of the message.
        reason: why nobody can use it.

    Raises:
        AMQPError, OSError: the broker did not take it; the message is still where it was.
    """
    logger.error("dead-lettered a message of %s: %s", queue, reason)
    properties = pika.BasicProperties(
        delivery_mode=pika.DeliveryMode.Persistent.value,
        headers={"reason": reason, "queue": queue, "routing_key": routing_key},
    )
    # Refused when it has nowhere to go.
    letters.basic_publish(DEAD_LETTERS, queue, body, properties, mandatory=True)


def declare_commands(channel: BlockingChannel) -> None:
    """Declare the exchange that commands are sent to; senders and takers both do."""
    channel.exchange_declare(COMMANDS, "topic", durable=True)


def declare_command_queue(channel: BlockingChannel, queue: str, topics: Iterable[str]) -> None:
    """Declare what a service takes commands from.

    Only the service itself does: commands for a service that was never deployed are refused to
    their sender, and do not fill the broker.
    """
    declare_commands(channel)
    declare_queue(channel, queue, single_active_consumer=True)
    for topic in topics:
        channel.queue_bind(queue, COMMANDS, topic)


@dataclass(frozen=True, kw_only=True)
class OutgoingCommand:
    """A command on its way to the exchange `commands`.

    Args:
        routing_key: what to do, such as `agent.block`.
        body: as the taker wants it, usually JSON.
        message_id: names the command; the same when it is sent again.
        reply_to: the queue that its outcome is sent to, with `message_id` as correlation id.
    """

    routing_key: str
    body: bytes
    message_id: str
    reply_to: str | None = None


def publish_command(url: str, command: OutgoingCommand) -> None:
    """Send one command, on a connection of its own; it is stored in a queue when this returns.

    Blocks for at most about 15 s: call it in a thread, not on an event loop.

    Raises:
        ServiceUnavailable: no service takes such commands, or the broker is away. In the second
            case the command may have been stored: send it again with the same key.
    """
    try:
        with commands_to(url, "command sender") as send:
            send(command)
    except BROKER_ERRORS as error:
        raise ServiceUnavailable("broker", _why_not_sent(error)) from error


@contextmanager
def commands_to(url: str, name: str) -> Iterator[Callable[[OutgoingCommand], None]]:
    """A function that sends commands on one connection, for one thread that sends many.

    Raises:
        AMQPError, OSError: from the function too; the command may have been stored all the same,
            unless it is an UnroutableError.
    """
    with blocking_connection(url, name) as connection:
        with deadline(connection, REQUEST_DEADLINE_SECONDS):
            channel = connection.channel()
            channel.confirm_delivery()
            declare_commands(channel)

        def send(command: OutgoingCommand) -> None:
            properties = pika.BasicProperties(
                content_type="application/json",
                delivery_mode=pika.DeliveryMode.Persistent.value,
                message_id=command.message_id,
                correlation_id=command.message_id,
                reply_to=command.reply_to,
            )
            with deadline(connection, PUBLISH_DEADLINE_SECONDS):
                channel.basic_publish(
                    COMMANDS, command.routing_key, command.body, properties, mandatory=True
                )

        yield send


def _why_not_sent(error: Exception) -> str:
    if isinstance(error, UnroutableError):
        return "no service takes this command"
    return "no confirm for the command"
