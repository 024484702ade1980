"""What stands in the log, and what is on its way there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from codebase.model.aggregate import Guard

SCHEMA_VERSION = 1
"""Of what `data` and `meta` mean; it is noted with every event."""


# Not frozen, though never changed: a frozen dataclass takes four times as long to make, and one of
# these is made for every event. So it is with NewEvent.
@dataclass(kw_only=True, slots=True)
class RecordedEvent:
    """One row of the log.

    `data` and `meta` are JSON objects; `decode` turns `data` into the event class.
    """

    partition: int
    position: int
    stream_id: UUID
    category: str
    version: int
    type: str
    idempotence_key: str | None
    data: Mapping[str, Any]
    meta: Mapping[str, Any]
    recorded_at: datetime


@dataclass(kw_only=True, slots=True)
class NewEvent:
    """An event on its way into the log; `data` and `meta` are JSON texts."""

    unit: int
    partition: int
    stream_id: UUID
    category: str
    version: int
    type: str
    idempotence_key: str | None
    data: str
    meta: str
    guards: Sequence[Guard]
