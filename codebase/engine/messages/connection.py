"""Connections to RabbitMQ that never wait for ever."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pika
from pika.exceptions import (
    AMQPConnectionError,
    AMQPError,
    ChannelClosedByBroker,
    ConnectionClosedByBroker,
    ProbableAccessDeniedError,
    ProbableAuthenticationError,
)
from pika.spec import CONNECTION_FORCED

# pika logs each failed attempt several times, with tracebacks; whoever connects reports it once.
logging.getLogger("pika").setLevel(logging.CRITICAL)

HEARTBEAT_SECONDS = 10
BLOCKED_DEADLINE_SECONDS = 30
"""A broker that is short of memory or disk stops reading from publishers, without an end."""
CONNECT_DEADLINE_SECONDS = 3
HANDSHAKE_DEADLINE_SECONDS = 8
REQUEST_DEADLINE_SECONDS = 8
"""For a declaration or a subscription; deleting a dead quorum queue takes the broker 5 s."""

# A peer that vanished is noticed within seconds, also in the middle of a write.
LIVELINESS = {
    "TCP_USER_TIMEOUT": 5_000,
    "TCP_KEEPIDLE": 5,
    "TCP_KEEPINTVL": 2,
    "TCP_KEEPCNT": 3,
}

BROKER_ERRORS: tuple[type[Exception], ...] = (AMQPError, OSError)
"""What a broken, refusing or vanished broker looks like."""


REFUSALS = (
    ChannelClosedByBroker,
    ConnectionClosedByBroker,
    ProbableAccessDeniedError,
    ProbableAuthenticationError,
)


def what_the_broker_does(error: Exception) -> str:
    """Whether a broker is away or refuses, as a sentence for everybody's eyes."""
    code = getattr(error, "reply_code", None)
    # This is how a broker says that it is being stopped.
    if not isinstance(error, REFUSALS) or code == CONNECTION_FORCED:
        return f"the broker is away ({type(error).__name__})"
    if code is None:
        return f"the broker refuses ({type(error).__name__})"
    return f"the broker refuses ({code} {error.reply_text.partition(' ')[0]})"


class NoAnswerError(AMQPConnectionError):  # type: ignore[misc]  # pika is not typed
    """The broker was silent for longer than a `deadline`, which broke the connection."""


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
