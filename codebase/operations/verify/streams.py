"""What can be said of a stream by itself: its versions, keys, and what is noted with each event."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from codebase.engine.commands.history import is_creation
from codebase.engine.log.codec import UnknownEventError, decode
from codebase.engine.log.events import RecordedEvent
from codebase.engine.log.identifiers import partition_of
from codebase.model.aggregate import Aggregate
from codebase.operations.verify.findings import Findings

EVENT_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)

# Whether it is the right one only the command could tell, and the log does not hold commands.
FINGERPRINT = re.compile(
    r"[0-9a-f]{32}"  # a digest
    r"|[A-Z]{3} [0-9.E+-]+"  # currency and amount of a buy order
    r"|1:[A-Za-z0-9_.-]{1,32}:[0-9a-f]{32}",  # version, key, half of HMAC-SHA-256
    re.ASCII,
)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != ""


def is_event_id(value: object) -> bool:
    """Whether this has the form of an event's id."""
    return isinstance(value, str) and EVENT_ID.fullmatch(value) is not None


def _is_version(value: object) -> bool:
    return isinstance(value, int) and value > 0


NOTED: Mapping[str, Callable[[object], bool]] = {
    "event_id": is_event_id,
    "correlation_id": _is_text,
    "causation_id": _is_text,
    "actor": _is_text,
    "schema": _is_version,
    "topic": _is_text,
}
"""What every event's `meta` holds, and whether a value can be that."""


def is_fingerprint(value: object) -> bool:
    """Whether a command may have this fingerprint, in any form that there ever was."""
    return isinstance(value, str) and FINGERPRINT.fullmatch(value) is not None


def place(event: RecordedEvent) -> str:
    """Where in the log an event stands, as sentences name it."""
    return f"{event.partition}:{event.position}"


@dataclass(frozen=True, slots=True)
class DecodedStream:
    """A stream's events in order, as the log holds them and as the model knows them."""

    stream_id: UUID
    aggregate: Aggregate[Any, Any, Any]
    events: Sequence[tuple[RecordedEvent, Any]]


def decode_stream(
    stream_id: UUID,
    recorded: Sequence[RecordedEvent],
    aggregates: Mapping[str, Aggregate[Any, Any, Any]],
) -> DecodedStream:
    """What a stream's rows stand for.

    Raises:
        UnknownEventError: one of them stands for nothing that is known.
    """
    first = recorded[0]
    aggregate = aggregates.get(first.category)
    if aggregate is None:
        raise UnknownEventError(f"no event {first.type} in category {first.category}")
    events = [(row, decode(row, aggregate)) for row in recorded]
    return DecodedStream(stream_id, aggregate, events)


def check_rows(
    stream_id: UUID, recorded: Sequence[RecordedEvent], partitions: int, findings: Findings
) -> None:
    """What the rows of a stream say without being decoded."""
    for trouble in (*_order(recorded), *_home(stream_id, recorded, partitions)):
        findings.add(f"log: stream {stream_id} {trouble}")
    for event, trouble in (*_keys(recorded), *_meta(recorded)):
        findings.add(f"log: the event at {place(event)} of stream {stream_id} {trouble}")


def _order(recorded: Sequence[RecordedEvent]) -> Iterator[str]:
    versions = [event.version for event in recorded]
    if versions != list(range(1, len(recorded) + 1)):
        yield f"has versions {_brief(versions)}"
    if [event.position for event in recorded] != sorted(event.position for event in recorded):
        yield "is not in the order of its versions"


def _home(stream_id: UUID, recorded: Sequence[RecordedEvent], partitions: int) -> Iterator[str]:
    if {event.partition for event in recorded} != {partition_of(stream_id, partitions)}:
        yield "is not in its partition"
    if len({event.category for event in recorded}) != 1:
        yield "has events of more than one category"


def _brief(versions: Sequence[int]) -> str:
    shown = ", ".join(map(str, versions[:10]))
    return shown if len(versions) <= 10 else f"{shown}, … ({len(versions)})"  # noqa: PLR2004


def _keys(recorded: Sequence[RecordedEvent]) -> Iterator[tuple[RecordedEvent, str]]:
    """A client's key stands for one command: on its first event, with its fingerprint.

    The key that the stream's id was made of belongs to the category, and may be that of a later
    command as well.
    """
    seen: dict[tuple[bool, str, str], RecordedEvent] = {}
    command: object = None
    for event in recorded:
        key, previous = event.idempotence_key, command
        command = event.meta.get("causation_id")
        if key is None:
            if "fingerprint" in event.meta:
                yield event, "has a fingerprint and no key"
            continue
        whose = is_creation(event), str(event.meta.get("actor")), key
        if (first := seen.setdefault(whose, event)) is not event:
            yield event, f"has the key of the one at {place(first)}"
        if command is not None and command == previous:
            yield event, "has a key and is not the first of its command"
        if "fingerprint" not in event.meta:
            yield event, "has a key and no fingerprint"
        elif not is_fingerprint(event.meta["fingerprint"]):
            yield event, "has a fingerprint of no known form"


def _meta(recorded: Sequence[RecordedEvent]) -> Iterator[tuple[RecordedEvent, str]]:
    for event in recorded:
        for name, is_valid in NOTED.items():
            if name not in event.meta:
                yield event, f"has no {name}"
            elif not is_valid(event.meta[name]):
                yield event, f"has no valid {name}"


def check_topics(stream: DecodedStream, findings: Findings) -> None:
    """Subscribers get an event by its topic, which is a function of the event."""
    for row, event in stream.events:
        expected = stream.aggregate.topic(event)
        if row.meta.get("topic", expected) != expected:
            findings.add(
                f"log: the event at {place(row)} of stream {stream.stream_id} has the topic"
                f" {row.meta['topic']}, the model says {expected}"
            )
