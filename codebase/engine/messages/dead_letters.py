"""Dead letters: where messages go that no consumer can use."""

from __future__ import annotations

import logging

import pika
from pika.adapters.blocking_connection import BlockingChannel

from codebase.engine.messages.topology import declare_queue

logger = logging.getLogger(__name__)
DEAD_LETTERS = "dead_letters"


def declare_dead_letters(channel: BlockingChannel) -> None:
    """Where messages go that no consumer can use, with the reason in their headers."""
    channel.exchange_declare(DEAD_LETTERS, "topic", durable=True)
    declare_queue(channel, DEAD_LETTERS, single_active_consumer=False)
    channel.queue_bind(DEAD_LETTERS, DEAD_LETTERS, "#")


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
