"""Subscribers read docs/asyncapi.json: it must say what the model says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pika
import pytest

from codebase.engine.messages.event_frames import properties
from codebase.engine.messages.event_messages import Message
from codebase.operations.asyncapi import document
from codebase.registry import SYSTEM

PUBLISHED = json.loads((Path(__file__).parents[2] / "docs" / "asyncapi.json").read_text())
EXAMPLES = json.loads((Path(__file__).parent / "golden_events.json").read_text())


OFFICIAL = json.loads((Path(__file__).parent / "asyncapi_3_0_0.json").read_text())
"""AsyncAPI's own schema, without its descriptions: schemas/3.0.0-without-$id.json of the npm
package @asyncapi/specs 6.11.1, which is under the Apache licence 2.0."""


def test_the_document_is_one_of_asyncapi() -> None:
    jsonschema.validate(PUBLISHED, OFFICIAL)
    channels = {**PUBLISHED["channels"], "events": {"bindings": {"amqp": {"exchange": "events"}}}}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**PUBLISHED, "channels": channels}, OFFICIAL)


def test_headers_of_an_event_are_those_of_the_document() -> None:
    message = Message(
        position=1,
        topic="buy_order.placed",
        event_id="an id",
        type="BuyOrderPlaced",
        timestamp=0,
        stream_id="a stream",
        version=2,
        category="buy_order",
        traceparent=None,
        body="",
    )
    documented = PUBLISHED["components"]["messages"][message.type]
    for traceparent in (None, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"):
        seen = pika.BasicProperties().decode(properties(message, 3, traceparent))
        schema = {**documented["headers"], "additionalProperties": False}
        jsonschema.validate(seen.headers, schema)
        assert seen.type == documented["bindings"]["amqp"]["messageType"]
        assert seen.content_type == documented["contentType"]


def test_the_published_document_is_up_to_date() -> None:
    how_to = "run: .venv/bin/orderly asyncapi > docs/asyncapi.json"
    assert document(SYSTEM.aggregates, SYSTEM.messages()) == PUBLISHED, how_to


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda one: one["type"])
def test_stored_events_fit_their_schema(example: dict[str, Any]) -> None:
    schema = {**PUBLISHED["components"]["schemas"][example["type"]], **PUBLISHED}
    jsonschema.validate(example["data"], schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({}, schema)


def test_a_command_fits_its_schema_and_another_does_not() -> None:
    """The schema says what the service takes, no more and no less."""
    payload = PUBLISHED["components"]["messages"]["agent.block"]["payload"]
    agent = "3f493fce-6c0a-4e20-8c1c-15c8fca1b8fe"
    for fits in (
        agent,
        {"agent_id": agent, "idempotence_key": "1"},
        {"agent_id": agent, "idempotence_key": "1", "reason": "late"},
    ):
        jsonschema.validate(fits, {**payload, **PUBLISHED})
    for does_not in (
        7,
        {"agent_id": agent},
        {"agent_id": agent, "idempotence_key": ""},
        {"agent_id": agent, "idempotence_key": "1", "reason": " "},
        {"agent_id": agent, "idempotence_key": "1", "colour": "red"},
    ):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(does_not, {**payload, **PUBLISHED})
