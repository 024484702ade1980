"""What there is at the broker: the exchanges and queues that publisher and consumers share.

    exchange `events` (topic) ──▶ queues of whoever subscribes
    exchange `positions` (direct) ──category and partition──▶ queue `<projector>.<partition>`
    exchange `commands` (topic) ──▶ queue `<service>`, of the service that takes them

An event is published once, under the routing key that its aggregate gave it. Our own projectors
read the log, and want to know only that there is something new in it: for all that is published
together they get one message, with the last position.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import ChannelClosedByBroker

EVENTS = "events"
POSITIONS = "positions"
COMMANDS = "commands"

FIRST_VERSION_WITH_A_LIMIT = 4
"""Of RabbitMQ: from here on a quorum queue drops what it delivered 20 times, unless told not to."""
NO_DELIVERY_LIMIT = -1
"""Only for those versions: the ones before read it as 0, and drop after the first delivery."""


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


def projector_queue(projector: str, partition: int) -> str:
    """The queue in which a projector is told of new positions of a partition."""
    return f"{projector}.{partition}"


def positions_key(category: str, partition: int) -> str:
    """The routing key of an announcement of events of this category."""
    return f"{category}.{partition}"


def declare_published(channel: BlockingChannel) -> None:
    """Declare what the relay publishes to; what is bound to it is the matter of who listens."""
    channel.exchange_declare(EVENTS, "topic", durable=True)
    channel.exchange_declare(POSITIONS, "direct", durable=True)


def declare_projector_queue(
    channel: BlockingChannel, projector: str, categories: Iterable[str], partition: int
) -> None:
    """Declare everything between the relay and one queue of a projector.

    Args:
        channel: that may declare.
        projector: its name.
        categories: whose events it is to be told of.
        partition: of the log.
    """
    declare_published(channel)
    queue = projector_queue(projector, partition)
    declare_queue(channel, queue, single_active_consumer=True)
    for category in sorted(categories):
        channel.queue_bind(queue, POSITIONS, positions_key(category, partition))


def remove_projector_queue(channel: BlockingChannel, projector: str, partition: int) -> None:
    """Delete a queue that an earlier release has bound to `events`, and what it bound it through.

    What it holds is in the log. The channel may be closed afterwards.
    """
    channel.queue_delete(projector_queue(projector, partition))
    # Queues of other partitions may still need it.
    with suppress(ChannelClosedByBroker):
        channel.exchange_delete(projector, if_unused=True)


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
