"""Between the model's events and the JSON texts that the log keeps."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from codebase.engine.log.events import RecordedEvent
from codebase.foundation.validation import adapter
from codebase.model.aggregate import Aggregate


class UnknownEventError(Exception):
    """The log holds an event that this version of the code does not know, or cannot read."""


def encode(event: object) -> str:
    """The stored JSON text of an event."""
    return adapter(type(event)).serializer.to_json(event).decode()


def decode(recorded: RecordedEvent, aggregate: Aggregate[Any, Any, Any]) -> Any:  # noqa: ANN401 - any event class of the model
    """The event object that a row of the log stands for.

    Args:
        recorded: a row.
        aggregate: of the row's category.

    Raises:
        UnknownEventError: the aggregate has no such event, or data that does not fit it.
    """
    event_class = _event_classes(aggregate.events).get(recorded.type)
    if event_class is None or recorded.category != aggregate.category:
        raise UnknownEventError(f"no event {recorded.type} in category {recorded.category}")
    try:
        return adapter(event_class).validate_python(recorded.data)
    except ValueError as error:
        raise UnknownEventError(
            f"{recorded.type} at {recorded.partition}:{recorded.position} cannot be read"
        ) from error


@cache
def _event_classes(events: tuple[type[Any], ...]) -> dict[str, type[Any]]:
    return {event_class.__name__: event_class for event_class in events}


def fold(aggregate: Aggregate[Any, Any, Any], recorded: Sequence[RecordedEvent]) -> Any:  # noqa: ANN401
    """The state of a stream after `recorded`, or None when there are no events."""
    return aggregate.fold([decode(row, aggregate) for row in recorded])
