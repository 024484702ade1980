"""An event as the frames of AMQP 0-9-1 that publish it.

What pika does for that, property by property, costs five times as much, and was most of what the
relay does. The format has been the same since 2008:
https://www.rabbitmq.com/resources/specs/amqp0-9-1.pdf, chapter 4.2.
"""

from __future__ import annotations

from struct import Struct

from codebase.engine.messages.event_messages import Message

FRAME = Struct(">BHI")
"""Kind, channel, length of what follows; then comes that, and the end."""
METHOD, HEADER, BODY = 1, 2, 3
END = b"\xce"

PUBLISH = Struct(">HHH")
"""Class and method of `basic.publish`, and a field that is reserved."""
CONTENT = Struct(">HHQ")
"""Class, weight, which is 0, and length of the body."""
BASIC_CLASS, PUBLISH_METHOD = 60, 40
NEITHER_MANDATORY_NOR_IMMEDIATE = b"\0"

FLAGS = Struct(">H")
CONTENT_TYPE, HEADERS, DELIVERY_MODE, MESSAGE_ID, TIMESTAMP, TYPE = (
    1 << bit for bit in (15, 13, 12, 7, 6, 5)
)
INT32, INT64, LENGTH, UNSIGNED64 = Struct(">i"), Struct(">q"), Struct(">I"), Struct(">Q")
PERSISTENT = b"\2"


def short_text(text: str) -> bytes:
    """A text of at most 255 bytes."""
    content = text.encode()
    return bytes((len(content),)) + content


def long_text(text: str) -> bytes:
    """A text of any length, as the value of a header."""
    content = text.encode()
    return b"S" + LENGTH.pack(len(content)) + content


BEGIN_OF_PROPERTIES = FLAGS.pack(
    CONTENT_TYPE | HEADERS | DELIVERY_MODE | MESSAGE_ID | TIMESTAMP | TYPE
) + short_text("application/json")
PARTITION, POSITION, STREAM_ID, VERSION, TRACEPARENT = map(
    short_text, ("partition", "position", "stream_id", "version", "traceparent")
)


def properties(message: Message, partition: int, traceparent: str | None) -> bytes:
    """What consumers see beside the body; `traceparent` may be a later span's."""
    headers = [
        PARTITION + b"I" + INT32.pack(partition),
        POSITION + b"l" + INT64.pack(message.position),
        STREAM_ID + long_text(message.stream_id),
        VERSION + b"I" + INT32.pack(message.version),
    ]
    if traceparent:
        headers.append(TRACEPARENT + long_text(traceparent))
    table = b"".join(headers)
    # In the order of their flags.
    return b"".join(
        (
            BEGIN_OF_PROPERTIES,
            LENGTH.pack(len(table)),
            table,
            PERSISTENT,
            short_text(message.event_id),
            UNSIGNED64.pack(message.timestamp),
            short_text(message.type),
        )
    )


def frames(
    exchange: str, routing_key: str, properties: bytes, body: bytes, *, channel: int, body_max: int
) -> bytes:
    """Everything that publishes one message.

    Args:
        exchange: where to.
        routing_key: by which.
        properties: encoded.
        body: not empty.
        channel: its number.
        body_max: bytes of a body that fit into a frame; a longer one gets several.
    """
    publish = (
        PUBLISH.pack(BASIC_CLASS, PUBLISH_METHOD, 0)
        + short_text(exchange)
        + short_text(routing_key)
        + NEITHER_MANDATORY_NOR_IMMEDIATE
    )
    content = CONTENT.pack(BASIC_CLASS, 0, len(body)) + properties
    pieces = [
        FRAME.pack(METHOD, channel, len(publish)),
        publish,
        END,
        FRAME.pack(HEADER, channel, len(content)),
        content,
        END,
    ]
    for begin in range(0, len(body), body_max):
        part = body[begin : begin + body_max]
        pieces += (FRAME.pack(BODY, channel, len(part)), part, END)
    return b"".join(pieces)
