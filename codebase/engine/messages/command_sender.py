"""Sending commands by message."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pika
from pika.exceptions import UnroutableError

from codebase.engine.messages.connection import (
    BROKER_ERRORS,
    REQUEST_DEADLINE_SECONDS,
    blocking_connection,
    deadline,
    what_the_broker_does,
)
from codebase.engine.messages.topology import COMMANDS, declare_commands
from codebase.foundation.errors import ServiceUnavailable

PUBLISH_DEADLINE_SECONDS = 5.0
"""For the confirm of a command; whoever sends it is waiting."""


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
            properties = properties_of(command)
            with deadline(connection, PUBLISH_DEADLINE_SECONDS):
                channel.basic_publish(
                    COMMANDS, command.routing_key, command.body, properties, mandatory=True
                )

        yield send


def _why_not_sent(error: Exception) -> str:
    if isinstance(error, UnroutableError):
        return "no service takes this command"
    return f"no confirm for the command, {what_the_broker_does(error)}"


def properties_of(command: OutgoingCommand) -> pika.BasicProperties:
    """What the message of a command says of itself."""
    return pika.BasicProperties(
        content_type="application/json",
        delivery_mode=pika.DeliveryMode.Persistent.value,
        message_id=command.message_id,
        correlation_id=command.message_id,
        reply_to=command.reply_to,
    )
