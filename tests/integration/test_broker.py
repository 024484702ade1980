"""What we rely on in any version of the broker."""

from __future__ import annotations

from uuid import uuid4

from codebase.engine.messages.topology import declare_queue
from codebase.foundation.settings import Settings
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
