"""The AsyncAPI document of the events that event_relay publishes, generated from the model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from codebase.infra.batch import SCHEMA_VERSION
from codebase.infra.broker import EVENTS
from codebase.infra.event_log import adapter
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


def document(aggregates: Iterable[Aggregate[Any, Any, Any]]) -> dict[str, Any]:
    """The AsyncAPI 3.0 document for all events of `aggregates`."""
    messages: dict[str, Any] = {}
    schemas: dict[str, Any] = {}
    for aggregate in aggregates:
        for event_class in aggregate.events:
            schema = adapter(event_class).json_schema(ref_template="#/components/schemas/{model}")
            schemas |= schema.pop("$defs", {})
            schemas[event_class.__name__] = schema
            messages[event_class.__name__] = _message(aggregate.category, event_class)
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "Orderly events", "version": str(SCHEMA_VERSION)},
        "channels": {
            EVENTS: {
                "address": EVENTS,
                "description": "Durable topic exchange; bind a queue of your own. Every event "
                "comes at least once, in stream order; `partition` and `position` tell a repeat.",
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
                "bindings": {
                    "amqp": {"is": "routingKey", "exchange": {"name": EVENTS, "type": "topic"}}
                },
            }
        },
        "operations": {
            "receive": {"action": "receive", "channel": {"$ref": f"#/channels/{EVENTS}"}}
        },
        "components": {"messages": messages, "schemas": schemas},
    }


def _message(category: str, event_class: type[Any]) -> dict[str, Any]:
    name = event_class.__name__
    data = {"$ref": f"#/components/schemas/{name}"}
    return {
        "name": name,
        "title": name,
        "summary": (event_class.__doc__ or "").strip(),
        "description": f"Routing keys begin with `{category}.`",
        "contentType": "application/json",
        "payload": {
            "type": "object",
            "required": [*ENVELOPE, "data"],
            "properties": ENVELOPE | {"data": data},
        },
    }
