"""What we rely on in any version of the broker."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pika

from codebase.engine.messages.batching_connection import BatchingConnection
from codebase.engine.messages.confirmed_prefix import ConfirmedPrefix
from codebase.engine.messages.dead_letters import DEAD_LETTERS, declare_dead_letters
from codebase.engine.messages.topology import (
    COMMANDS,
    EVENTS,
    declare_commands,
    declare_published,
    declare_queue,
)
from codebase.foundation.settings import Settings
from codebase.operations.asyncapi import document
from codebase.registry import SYSTEM
from tests.integration.flow import channel_to
from tests.patience import PATIENCE_SECONDS

MORE_THAN_ANY_DEFAULT_LIMIT = 30


def test_a_message_that_is_given_back_again_and_again_stays(with_broker: Settings) -> None:
    queue = f"test-{uuid4()}"
    with channel_to(with_broker) as channel:
        declare_queue(channel, queue, single_active_consumer=False)
        channel.basic_publish("", queue, b"good")
        for _ in range(MORE_THAN_ANY_DEFAULT_LIMIT):
            method, _, body = next(channel.consume(queue, inactivity_timeout=PATIENCE_SECONDS))
            assert body == b"good"
            channel.basic_nack(method.delivery_tag)
            channel.cancel()
        channel.queue_delete(queue)


def test_exchanges_can_be_declared_as_the_document_has_them(with_broker: Settings) -> None:
    """A subscriber may come before us, or after us: the second one must not be refused."""
    channels = document(SYSTEM.aggregates, SYSTEM.messages())["channels"].values()
    exchanges = [
        channel["bindings"]["amqp"]["exchange"] for channel in channels if "bindings" in channel
    ]
    with channel_to(with_broker) as channel:
        declare_published(channel)
        declare_commands(channel)
        declare_dead_letters(channel)
        for exchange in exchanges:
            channel.exchange_declare(
                exchange["name"],
                exchange["type"],
                durable=exchange["durable"],
                auto_delete=exchange["autoDelete"],
            )
    assert [exchange["name"] for exchange in exchanges] == [EVENTS, COMMANDS, DEAD_LETTERS]


class Counted(pika.SelectConnection):  # type: ignore[misc]  # pika is not typed
    """Counts how often pika hands something to the socket."""

    handed_over = 0

    def _adapter_emit_data(self, data: bytes) -> None:
        self.handed_over += 1
        super()._adapter_emit_data(data)


class BatchingAndCounted(BatchingConnection, Counted):
    """What is handed over once it has been gathered."""


def test_what_is_published_together_is_sent_together(with_broker: Settings) -> None:
    """Red on an upgrade of pika that sends in another way than the one we reach into."""
    counted: list[int] = []

    def publish(channel: Any) -> None:  # noqa: ANN401 - pika's
        for batching in (False, True):
            before = connection.handed_over
            if batching:
                with connection.together():
                    publish_ten(channel)
            else:
                publish_ten(channel)
            counted.append(connection.handed_over - before)
        connection.close()

    def publish_ten(channel: Any) -> None:  # noqa: ANN401 - pika's
        for _ in range(10):
            channel.basic_publish("amq.topic", "nobody", b"x")

    def failed(_connection: object, error: BaseException) -> None:
        connection.ioloop.stop()
        raise error

    connection = BatchingAndCounted(
        pika.URLParameters(with_broker.required("broker_url")),
        on_open_callback=lambda it: it.channel(on_open_callback=publish),
        on_open_error_callback=failed,
        on_close_callback=lambda it, _reason: it.ioloop.stop(),
    )
    connection.ioloop.start()
    connection.ioloop.close()
    alone, together = counted
    assert alone >= 10
    assert together == 1


def test_confirms_that_come_in_together_are_taken_together_and_none_is_lost(
    with_broker: Settings,
) -> None:
    """Red on an upgrade of pika that reads frames in another way than the one we reach into.

    Nobody has bound anything, so that each message is confirmed by itself.
    """
    confirmed, taken = ConfirmedPrefix(0), list[int]()
    count = 2_000

    def publish(channel: Any) -> None:  # noqa: ANN401 - pika's
        connection.take_confirms_together(channel.channel_number, take_with_others)
        channel.confirm_delivery(take)
        with connection.together():
            for _ in range(count):
                channel.basic_publish("amq.topic", "nobody", b"x")

    def take_with_others(tag: int, *, multiple: bool) -> None:
        confirmed.confirm(tag, multiple=multiple)
        taken.append(tag)

    def take(frame: Any) -> None:  # noqa: ANN401 - pika's
        confirmed.confirm(frame.method.delivery_tag, multiple=frame.method.multiple)
        if confirmed.position == count:
            connection.close()

    def failed(_connection: object, error: BaseException) -> None:
        connection.ioloop.stop()
        raise error

    connection = BatchingConnection(
        pika.URLParameters(with_broker.required("broker_url")),
        on_open_callback=lambda it: it.channel(on_open_callback=publish),
        on_open_error_callback=failed,
        on_close_callback=lambda it, _reason: it.ioloop.stop(),
    )
    connection.ioloop.start()
    connection.ioloop.close()
    assert confirmed.position == count
    assert taken, "with others"
