"""What was stored once can be read for ever: one example of every event of every version."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from codebase.engine.log.codec import UnknownEventError, decode, encode
from codebase.engine.log.events import SCHEMA_VERSION, RecordedEvent
from codebase.registry import SYSTEM

EXAMPLES = json.loads((Path(__file__).parent / "golden_events.json").read_text())
CATEGORIES = {aggregate.category: aggregate for aggregate in SYSTEM.aggregates}


def read(category: str, name: str, data: dict[str, Any]) -> Any:  # noqa: ANN401
    return decode(recorded(category, name, data), CATEGORIES[category])


def recorded(category: str, name: str, data: dict[str, Any]) -> RecordedEvent:
    return RecordedEvent(
        partition=0,
        position=1,
        stream_id=UUID(int=1),
        category=category,
        version=1,
        type=name,
        idempotence_key=None,
        data=data,
        meta={},
        recorded_at=datetime(2026, 11, 21, tzinfo=UTC),
    )


def holds(written: Any, stored: Any) -> bool:  # noqa: ANN401 - JSON
    """Whether all that was stored is there, at any depth; what was added since has its default."""
    match written, stored:
        case dict(), dict():
            return all(name in written and holds(written[name], stored[name]) for name in stored)
        case list(), list() if len(written) == len(stored):
            return all(holds(*each) for each in zip(written, stored, strict=True))
        case _:
            return bool(written == stored)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda one: f"{one['type']}-{one['schema']}")
def test_a_stored_event_is_decoded_and_folded_as_on_its_first_day(example: dict[str, Any]) -> None:
    aggregate = CATEGORIES[example["category"]]
    event = read(example["category"], example["type"], example["data"])
    assert aggregate.topic(event) == example["topic"]
    before = [
        read(example["category"], one["type"], one["data"]) for one in example.get("after", [])
    ]
    assert str(aggregate.fold([*before, event])) == example["state"]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda one: f"{one['type']}-{one['schema']}")
def test_events_are_still_written_as_they_are_read(example: dict[str, Any]) -> None:
    event = read(example["category"], example["type"], example["data"])
    written = json.loads(encode(event))
    assert holds(written, example["data"])
    assert read(example["category"], example["type"], written) == event


def test_every_event_has_an_example_of_its_present_version() -> None:
    events = {(one.category, event.__name__) for one in SYSTEM.aggregates for event in one.events}
    examples = {
        (one["category"], one["type"]) for one in EXAMPLES if one["schema"] == SCHEMA_VERSION
    }
    assert events == examples


def test_an_unknown_event_says_so() -> None:
    with pytest.raises(UnknownEventError, match="no event Unheard in category buy_order"):
        read("buy_order", "Unheard", {})


def test_an_event_that_cannot_be_read_says_where_and_not_what() -> None:
    with pytest.raises(UnknownEventError, match=r"BuyOrderPlaced at 0:1 cannot be read"):
        read("buy_order", "BuyOrderPlaced", {"client": "secret"})
