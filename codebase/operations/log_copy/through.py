"""The function that events go through on their way; what it makes of one has to be that event."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from pkgutil import resolve_name
from typing import Any

from codebase.engine.log.codec import UnknownEventError, decode
from codebase.engine.log.events import RecordedEvent
from codebase.foundation.errors import ConfigurationError
from codebase.model.aggregate import Aggregate, Guard
from codebase.operations.log_copy.errors import CopyError
from codebase.operations.log_copy.rows import Row

Rewrite = Callable[[RecordedEvent], RecordedEvent]
"""May change category, type, data and meta; never leaves one out, for positions are dense."""

MAY_CHANGE = frozenset({"category", "type", "data", "meta"})
KEPT = tuple(each.name for each in fields(RecordedEvent) if each.name not in MAY_CHANGE)


def load_rewrite(name: str) -> Rewrite:
    """The function called `package.module:function`.

    Raises:
        ConfigurationError: there is none.
    """
    if name.count(":") != 1:
        raise ConfigurationError(f"--through is package.module:function, and not {name}")
    try:
        found = resolve_name(name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError(f"--through {name}: {error}") from error
    if not callable(found):
        raise ConfigurationError(f"--through {name} is no function")
    return found  # type: ignore[no-any-return] # what it returns is looked at, event by event


class Through:
    """Has rows rewritten, and makes sure that this release can go on with what comes out.

    Args:
        rewrite: the function.
        aggregates: whose streams the log may hold.
    """

    def __init__(self, rewrite: Rewrite, aggregates: Sequence[Aggregate[Any, Any, Any]]) -> None:
        self._rewrite = rewrite
        self._aggregates = {aggregate.category: aggregate for aggregate in aggregates}

    def row(self, row: Row) -> Row:
        """What becomes of a row; the same one if nothing is rewritten.

        Raises:
            CopyError: it would be another event, none that this release knows, or one that claims
                or spends something else.
        """
        before = _recorded(row)
        after = self._call(before, row)
        for trouble in self._troubles(before, after):
            raise CopyError(f"the event at {row.place} would {trouble}")
        if after == before:
            return row
        return row._replace(
            category=after.category,
            type=after.type,
            data=_text(after.data, row),
            meta=_text(after.meta, row),
        )

    def _call(self, before: RecordedEvent, row: Row) -> RecordedEvent:
        # What it is given may be changed in place, and is compared with what comes out.
        given = replace(before, data=json.loads(row.data), meta=json.loads(row.meta))
        try:
            after = self._rewrite(given)
        except Exception as error:  # the operator's own function may raise whatever it likes
            raise CopyError(f"the event at {row.place}: the function raises {error!r}") from error
        if not isinstance(after, RecordedEvent):
            raise CopyError(f"the event at {row.place} would become {type(after).__name__}")
        return after

    def _troubles(self, before: RecordedEvent, after: RecordedEvent) -> list[str]:
        """What the event would do that it may not, each as the end of a sentence."""
        troubles = [
            f"change its {name}" for name in KEPT if getattr(before, name) != getattr(after, name)
        ]
        if before.meta.get("event_id") != after.meta.get("event_id"):
            troubles.append("change its event_id")
        try:
            return troubles + self._of_the_model(before, after)
        except UnknownEventError as error:
            return [*troubles, f"be unreadable: {error}"]

    def _of_the_model(self, before: RecordedEvent, after: RecordedEvent) -> list[str]:
        aggregate, event = self._decoded(after)
        topic = aggregate.topic(event)
        if after.meta.get("topic", topic) != topic:
            return [f"have the topic {after.meta['topic']}, the model says {topic}"]
        guarded = self._guards_of_old(before)
        if guarded is not None and guarded != list(aggregate.guards(event)):
            # Claims and budgets are taken over as they stand.
            return ["claim or spend something else"]
        return []

    def _guards_of_old(self, before: RecordedEvent) -> list[Guard] | None:
        """What an event claims and spends; None when this release cannot read it any more."""
        try:
            aggregate, event = self._decoded(before)
        except UnknownEventError:
            return None
        return list(aggregate.guards(event))

    def _decoded(self, recorded: RecordedEvent) -> tuple[Aggregate[Any, Any, Any], Any]:
        aggregate = self._aggregates.get(recorded.category)
        if aggregate is None:
            raise UnknownEventError(f"no event {recorded.type} in category {recorded.category}")
        return aggregate, decode(recorded, aggregate)


def _recorded(row: Row) -> RecordedEvent:
    texts = {"data": json.loads(row.data), "meta": json.loads(row.meta)}
    return RecordedEvent(**{**row._asdict(), **texts})


def _text(value: Mapping[str, Any], row: Row) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise CopyError(f"the event at {row.place} would be no JSON: {error}") from error
