"""What the relay makes sure of before it publishes: that nobody who subscribed misses an event."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import pika
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import ChannelClosedByBroker
from pika.spec import PRECONDITION_FAILED

from codebase.engine.messages.dead_letters import DEAD_LETTERS, declare_dead_letters
from codebase.engine.messages.topology import (
    Subscription,
    bind_subscription,
    declare_subscription,
)


def declare_for_subscribers(
    connection: pika.BlockingConnection,
    subscriptions: Sequence[Subscription],
    partition: int,
    partitions: int,
) -> Mapping[str, str]:
    """Declare everything between the relay and the queues of one partition.

    A queue that somebody has made with other arguments stays as it is. It is bound all the same, so
    that it gets every event, and it is no reason to keep events from everybody else.

    Args:
        connection: to declare on.
        subscriptions: those that must not miss an event.
        partition: whose queues.
        partitions: how many the log has.

    Returns:
        Why a queue is not as it should be -> what the broker says of it, for operators.

    Raises:
        AMQPError, OSError: a subscriber might miss events.
    """
    amiss: dict[str, str] = {}

    def tolerate(queue: str, declare: Callable[[BlockingChannel], None]) -> bool:
        try:
            declare(connection.channel())
        except ChannelClosedByBroker as error:
            if error.reply_code != PRECONDITION_FAILED:
                raise
            amiss[f"queue {queue} exists with other arguments"] = error.reply_text
            return False
        return True

    # What cannot be read is put there by consumers, and they will say so.
    tolerate(DEAD_LETTERS, declare_dead_letters)
    for subscription in subscriptions:
        mine: dict[str, Any] = {
            "subscription": subscription,
            "mine": [partition],
            "partitions": partitions,
        }
        if not tolerate(subscription.queue(partition), partial(declare_subscription, **mine)):
            # An exchange with other arguments is refused here again, and that ends it.
            bind_subscription(connection.channel(), **mine)
    return amiss
