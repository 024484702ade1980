"""The AsyncAPI document of events and commands by message, generated from what reads them."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel

from codebase.engine.log.events import SCHEMA_VERSION
from codebase.engine.messages.command_message import Reply
from codebase.engine.messages.dead_letters import DEAD_LETTERS
from codebase.engine.messages.reply_queues import RESERVED
from codebase.engine.messages.topology import COMMANDS, EVENTS
from codebase.foundation.validation import adapter
from codebase.model.aggregate import Aggregate

META = {
    "event_id": "UUID of version 7; also the message_id.",
    "correlation_id": "Of the request that led to this.",
    "causation_id": "Of the command that led to this; events of one command share it.",
    "actor": "The authenticated client.",
    "schema": "Version of the event type.",
    "topic": "The routing key.",
    "fingerprint": "Of the command, on its first event.",
    "traceparent": "W3C trace context, if the client sent one.",
}
ENVELOPE = {
    "event_id": {"type": "string", "format": "uuid"},
    "type": {"type": "string"},
    "category": {"type": "string"},
    "stream_id": {"type": "string", "format": "uuid"},
    "version": {"type": "integer", "description": "Of the stream; tells a repeat."},
    "partition": {"type": "integer"},
    "position": {"type": "integer", "description": "In the partition; dense, in commit order."},
    "recorded_at": {"type": "string", "format": "date-time"},
    "meta": {
        "type": "object",
        "properties": {
            name: {"type": "integer" if name == "schema" else "string", "description": text}
            for name, text in META.items()
        },
    },
}
EVENT_HEADERS = {
    "type": "object",
    "required": ["partition", "position", "stream_id", "version"],
    "properties": {
        **{name: ENVELOPE[name] for name in ("partition", "position", "stream_id", "version")},
        "traceparent": {"type": "string", "description": "W3C trace context, if there is one."},
    },
}
COMMAND_HEADERS = {
    "type": "object",
    "properties": {
        "traceparent": {"type": "string", "description": "W3C trace context of the sender."}
    },
}
LETTER_HEADERS = {
    "type": "object",
    "required": ["reason", "queue", "routing_key"],
    "properties": {
        "reason": {"type": "string", "description": "Why nobody can use the message."},
        "queue": {"type": "string", "description": "That it came by; also the new routing key."},
        "routing_key": {"type": "string", "description": "That it was published with."},
    },
}

BINDINGS = "0.3.0"
"""The version of AsyncAPI's bindings for AMQP."""
PERSISTENT = 2
LETTER = "DeadLetter"
REPLIES = "replies"
BARE_ID = {"type": "string", "format": "uuid", "description": "The bare id, for want of a key."}
SCHEMAS = "#/components/schemas/{model}"


def document(
    aggregates: Iterable[Aggregate[Any, Any, Any]], commands: Mapping[str, type[BaseModel]]
) -> dict[str, Any]:
    """The AsyncAPI 3.0 document, for those who subscribe to events and send commands.

    Args:
        aggregates: whose events are published.
        commands: routing key -> what the body must be.
    """
    schemas: dict[str, Any] = {}
    events: dict[str, Any] = {}
    for aggregate in aggregates:
        for event_class in aggregate.events:
            schema = adapter(event_class).json_schema(ref_template=SCHEMAS)
            _add(schemas, event_class.__name__, schema)
            events[event_class.__name__] = _event(aggregate.category, event_class)
    models: list[type[BaseModel]] = [*commands.values(), Reply]
    for model in models:
        _add(schemas, model.__name__, model.model_json_schema(ref_template=SCHEMAS))
    sent = {key: _command(key, model) for key, model in commands.items()}
    replies, letters = {Reply.__name__: _reply()}, {LETTER: _letter()}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Orderly events and commands",
            "version": str(SCHEMA_VERSION),
            "description": "For those who subscribe to events, or send commands by message.",
        },
        "defaultContentType": "application/json",
        "servers": {
            "broker": {
                "host": "localhost:5672",
                "protocol": "amqp",
                "protocolVersion": "0.9.1",
                "description": "RabbitMQ; BROKER_URL says where it is, and as whom to come.",
            }
        },
        "channels": {
            EVENTS: _channel(
                EVENTS,
                events,
                "Bind a queue of your own. Every event comes at least "
                "once, in stream order; `partition` and `position` tell a repeat.",
            ),
            COMMANDS: _channel(
                COMMANDS,
                sent,
                "What cannot be read, and what is refused, goes to the "
                "exchange `dead_letters` with header `reason`. Publish with `mandatory` and "
                "confirms; whatever is in doubt can be sent again with the same key.",
            ),
            REPLIES: {
                "address": None,
                "description": "The queue that a command's property `reply_to` names. It is "
                f"RabbitMQ's direct reply-to, or its name begins with `{RESERVED}`; a command with "
                "another one is carried out and not answered.",
                "messages": _references(replies),
            },
            DEAD_LETTERS: _channel(
                DEAD_LETTERS,
                letters,
                "What no service could use, as it was sent. They are kept in the queue of this "
                "name; who has mended one sends it again to where it came from.",
            ),
        },
        "operations": {
            "receive": {
                "action": "receive",
                "channel": {"$ref": f"#/channels/{EVENTS}"},
                "bindings": _binding(ack=True),
            },
            "command": {
                "action": "send",
                "channel": {"$ref": f"#/channels/{COMMANDS}"},
                "bindings": _binding(deliveryMode=PERSISTENT, mandatory=True),
                "reply": {"channel": {"$ref": f"#/channels/{REPLIES}"}},
            },
        },
        "components": {"messages": events | sent | replies | letters, "schemas": schemas},
    }


def _add(schemas: dict[str, Any], name: str, schema: dict[str, Any]) -> None:
    schemas |= schema.pop("$defs", {})
    schemas[name] = schema


def _channel(exchange: str, messages: Iterable[str], description: str) -> dict[str, Any]:
    return {
        "address": exchange,
        "description": description,
        "messages": _references(messages),
        "bindings": _binding(
            **{"is": "routingKey"},
            exchange={"name": exchange, "type": "topic", "durable": True, "autoDelete": False},
        ),
    }


def _binding(**values: object) -> dict[str, Any]:
    """What is so at a broker that speaks AMQP 0.9.1."""
    return {"amqp": {**values, "bindingVersion": BINDINGS}}


def _references(messages: Iterable[str]) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/messages/{name}"} for name in messages}


def _command(routing_key: str, body: type[BaseModel]) -> dict[str, Any]:
    schema = {"$ref": SCHEMAS.format(model=body.__name__)}
    return {
        "name": routing_key,
        "title": routing_key,
        "summary": inspect.getdoc(body) or "",
        "description": f"Routing key `{routing_key}`. Without a key in the body the property "
        "`message_id` is the idempotence key. With the properties `reply_to` and `correlation_id` "
        "its outcome is told.",
        "contentType": "application/json",
        "headers": COMMAND_HEADERS,
        "payload": {"oneOf": [schema, BARE_ID]},
    }


def _reply() -> dict[str, Any]:
    name = Reply.__name__
    return {
        "name": name,
        "title": name,
        "summary": inspect.getdoc(Reply) or "",
        "description": "Property `correlation_id` is the command's.",
        "contentType": "application/json",
        "payload": {"$ref": SCHEMAS.format(model=name)},
    }


def _letter() -> dict[str, Any]:
    return {
        "name": LETTER,
        "title": LETTER,
        "summary": "A message that could not be used, byte for byte.",
        "contentType": "application/octet-stream",
        "headers": LETTER_HEADERS,
        "payload": {},
    }


def _event(category: str, event_class: type[Any]) -> dict[str, Any]:
    name = event_class.__name__
    data = {"$ref": f"#/components/schemas/{name}"}
    return {
        "name": name,
        "title": name,
        "summary": inspect.getdoc(event_class) or "",
        "description": f"Routing keys begin with `{category}.` Property `message_id` is the "
        "event's id, `type` its type, `timestamp` when it was recorded, in seconds.",
        "contentType": "application/json",
        "headers": EVENT_HEADERS,
        "bindings": _binding(messageType=name),
        "payload": {
            "type": "object",
            "required": [*ENVELOPE, "data"],
            "properties": ENVELOPE | {"data": data},
        },
    }
