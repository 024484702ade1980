"""What there is at the broker: the exchanges and queues that publisher and consumers share.

    exchange `events` (topic) ──topics of a subscription──▶ exchange `<subscription>` (headers)
                      ──header `partition`──▶ queue `<subscription>.<partition>`

    exchange `commands` (topic) ──▶ queue `<service>`, of the service that takes them

A log with one partition has nothing to split, and its queues are bound to `events` directly.
An event is published once, under the routing key that its aggregate gave it. Each subscription
splits what it gets by partition, in an exchange of its own, so that routing keys stay clean and
a consumer's queues hold streams in order.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pika.adapters.blocking_connection import BlockingChannel

EVENTS = "events"
COMMANDS = "commands"

FIRST_VERSION_WITH_A_LIMIT = 4
"""Of RabbitMQ: from here on a quorum queue drops what it delivered 20 times, unless told not to."""
NO_DELIVERY_LIMIT = -1
"""Only for those versions: the ones before read it as 0, and drop after the first delivery."""


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
    mine = tuple(mine)
    declare_exchanges(channel, subscription, partitions)
    for partition in mine:
        declare_queue(channel, subscription.queue(partition), single_active_consumer=True)
    bind_queues(channel, subscription, mine, partitions)


def bind_subscription(
    channel: BlockingChannel, subscription: Subscription, mine: Iterable[int], partitions: int
) -> None:
    """The same for queues that are there already, however they were made."""
    declare_exchanges(channel, subscription, partitions)
    bind_queues(channel, subscription, mine, partitions)


def declare_exchanges(
    channel: BlockingChannel, subscription: Subscription, partitions: int
) -> None:
    """Declare what a subscription's queues are bound to."""
    channel.exchange_declare(EVENTS, "topic", durable=True)
    # With one partition there is nothing to split, and every hop less saves the broker a tenth of
    # what a message costs it.
    if partitions > 1:
        channel.exchange_declare(subscription.name, "headers", durable=True)
        for topic in subscription.topics:
            channel.exchange_bind(subscription.name, EVENTS, topic)


def bind_queues(
    channel: BlockingChannel, subscription: Subscription, mine: Iterable[int], partitions: int
) -> None:
    """Have a subscription's queues get the events of their partitions."""
    for partition in mine:
        queue = subscription.queue(partition)
        if partitions > 1:
            match = {"x-match": "all", "partition": partition}
            channel.queue_bind(queue, subscription.name, arguments=match)
        else:
            for topic in subscription.topics:
                channel.queue_bind(queue, EVENTS, topic)


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
