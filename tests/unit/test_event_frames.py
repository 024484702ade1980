"""What is published is what pika would have made of it."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pika
import pytest
from pika import frame, spec

from codebase.engine.messages.event_frames import frames, properties
from codebase.engine.messages.event_messages import Message

CHANNEL = 7
BODY_MAX = 1_000


def message(body: str, position: int = 2**40) -> Message:
    return Message(
        position=position,
        topic="agent.blocked.übersee",
        event_id=str(uuid4()),
        type="AgentBlocked",
        timestamp=1_795_000_000,
        stream_id=str(uuid4()),
        version=20_001,
        category="agent",
        traceparent="from the log",
        body=body,
    )


def as_pika_would(event: Message, partition: int, traceparent: str | None) -> bytes:
    headers: dict[str, Any] = {
        "partition": partition,
        "position": event.position,
        "stream_id": event.stream_id,
        "version": event.version,
    }
    if traceparent:
        headers["traceparent"] = traceparent
    described = pika.BasicProperties(
        content_type="application/json",
        delivery_mode=pika.DeliveryMode.Persistent.value,
        headers=headers,
        message_id=event.event_id,
        timestamp=event.timestamp,
        type=event.type,
    )
    body = event.body.encode()
    made = [
        frame.Method(CHANNEL, spec.Basic.Publish(exchange="events", routing_key=event.topic)),
        frame.Header(CHANNEL, len(body), described),
    ]
    made += [
        frame.Body(CHANNEL, body[begin : begin + BODY_MAX])
        for begin in range(0, len(body), BODY_MAX)
    ]
    return b"".join(each.marshal() for each in made)


def understood(content: bytes) -> list[tuple[object, ...]]:
    """The frames as who receives them sees them."""
    found: list[tuple[object, ...]] = []
    while content:
        size, each = frame.decode_frame(content)
        content = content[size:]
        seen = {
            frame.Method: lambda it: (it.method.exchange, it.method.routing_key, it.method),
            frame.Header: lambda it: (it.body_size, it.properties),
            frame.Body: lambda it: (it.fragment,),
        }[type(each)](each)
        found.append((type(each), each.channel_number, *seen))
    return found


@pytest.mark.parametrize("traceparent", [None, "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"])
@pytest.mark.parametrize(
    "body",
    ['{"é": 1}', "x" * BODY_MAX, "é" * BODY_MAX, "x" * (3 * BODY_MAX + 1)],
    ids=["short", "as long as a frame", "two frames", "four frames"],
)
@pytest.mark.parametrize("partition", [0, 3])
def test_an_event_is_published_as_pika_would(
    partition: int, body: str, traceparent: str | None
) -> None:
    event = message(body)
    made = frames(
        "events",
        event.topic,
        properties(event, partition, traceparent),
        event.body.encode(),
        channel=CHANNEL,
        body_max=BODY_MAX,
    )
    assert understood(made) == understood(as_pika_would(event, partition, traceparent))
