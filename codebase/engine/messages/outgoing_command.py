"""A command as a message."""

from __future__ import annotations

from dataclasses import dataclass

import pika

PUBLISH_DEADLINE_SECONDS = 5.0
"""For the confirm of a command."""


@dataclass(frozen=True, kw_only=True)
class OutgoingCommand:
    """A command on its way to the exchange `commands`.

    Args:
        routing_key: what to do, such as `agent.block`.
        body: as the taker wants it, usually JSON.
        message_id: names the command; the same when it is sent again.
        reply_to: the queue that its outcome is sent to, with `message_id` as correlation id; it
            is one for replies, see `reply_queues.py`.
    """

    routing_key: str
    body: bytes
    message_id: str
    reply_to: str | None = None


def properties_of(command: OutgoingCommand) -> pika.BasicProperties:
    """What the message of a command says of itself."""
    return pika.BasicProperties(
        content_type="application/json",
        delivery_mode=pika.DeliveryMode.Persistent.value,
        message_id=command.message_id,
        correlation_id=command.message_id,
        reply_to=command.reply_to,
    )
