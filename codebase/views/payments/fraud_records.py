"""What administrators have said, and which rule sets there were: listings, labels, rule sets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Cursor

from codebase.engine.log.codec import decode
from codebase.engine.log.events import RecordedEvent
from codebase.engine.projections.logged_events import LoggedEvent
from codebase.engine.projections.projection import Projection, of_type, write
from codebase.foundation.arrays import smallints
from codebase.model.payments.fraud_label import FRAUD_LABEL
from codebase.model.payments.fraud_listing import FRAUD_LISTING, Listed
from codebase.model.payments.fraud_rule_history import FRAUD_RULES

INSERT_LISTINGS = """
    INSERT INTO fraud_listing (id, version, list, kind, value, ends_at, reason, listed_at,
                               position, partition)
    SELECT event.stream_id, event.version, listed.list, listed.kind, listed.value, listed.ends_at,
           listed.reason, event.recorded_at, event.position, event.partition
    FROM unnest(%(stream_id)b::uuid[], %(version)b::integer[], %(recorded_at)b::timestamptz[],
                %(position)b::bigint[], %(partition)b::smallint[], %(data)b::text[]::jsonb[])
        AS event (stream_id, version, recorded_at, position, partition, data),
        jsonb_to_record(event.data)
            AS listed (list text, kind text, value text, ends_at timestamptz, reason text)
    ON CONFLICT DO NOTHING
"""

# Whatever comes next in the stream ends it.
END_LISTINGS = """
    UPDATE fraud_listing AS listing SET over_at = event.position
    FROM unnest(%(stream_id)b::uuid[], %(version)b::integer[], %(position)b::bigint[])
        AS event (stream_id, version, position)
    WHERE listing.id = event.stream_id AND listing.version = event.version - 1
"""

UPSERT_LABELS = """
    INSERT INTO fraud_label (id, transaction_id, label, reason, labelled_at)
    SELECT DISTINCT ON (event.stream_id) event.stream_id, said.transaction_id, said.label,
           said.reason, event.recorded_at
    FROM unnest(%(stream_id)b::uuid[], %(version)b::integer[], %(recorded_at)b::timestamptz[],
                %(data)b::text[]::jsonb[])
        AS event (stream_id, version, recorded_at, data),
        jsonb_to_record(event.data) AS said (transaction_id uuid, label text, reason text)
    ORDER BY event.stream_id, event.version DESC
    ON CONFLICT (id) DO UPDATE
    SET label = excluded.label, reason = excluded.reason, labelled_at = excluded.labelled_at
"""

INSERT_RULE_SETS = """
    INSERT INTO fraud_rule_set (id, hash, text, adopted_at)
    SELECT event.stream_id, adopted.hash, adopted.text, event.recorded_at
    FROM unnest(%(stream_id)b::uuid[], %(recorded_at)b::timestamptz[], %(data)b::text[]::jsonb[])
        AS event (stream_id, recorded_at, data),
        jsonb_to_record(event.data) AS adopted (hash text, text text)
    ON CONFLICT DO NOTHING
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class ListingRow:
    """A card or a client on a list; `over_at` is the position of what ended it, if anything did."""

    id: UUID
    version: int
    list: str
    kind: str
    value: str
    ends_at: datetime
    reason: str
    listed_at: datetime
    position: int
    partition: int
    over_at: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelRow:
    """What a transaction turned out to be, by the last word."""

    id: UUID
    transaction_id: UUID
    label: str
    reason: str
    labelled_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class RuleSetRow:
    """A rule set that decided something."""

    id: UUID
    hash: str
    text: str
    adopted_at: datetime


def apply_listings(cursor: Cursor[Any], events: Sequence[LoggedEvent]) -> None:
    """Put on lists, and take off them."""
    listed = of_type(events, Listed)
    write(
        cursor,
        INSERT_LISTINGS,
        listed,
        position=[event.position for event in listed],
        partition=smallints([event.partition for event in listed]),
    )
    write(cursor, END_LISTINGS, events, position=[event.position for event in events])


def apply_labels(cursor: Cursor[Any], events: Sequence[LoggedEvent]) -> None:
    """Keep the last word on each transaction."""
    write(cursor, UPSERT_LABELS, events)


def apply_rule_sets(cursor: Cursor[Any], events: Sequence[LoggedEvent]) -> None:
    """Keep every rule set."""
    write(cursor, INSERT_RULE_SETS, events)


def expected_listings(listing_id: UUID, recorded: Sequence[RecordedEvent]) -> Iterable[ListingRow]:
    """The rows that a listing's stream comes to, one for each time that it was listed."""
    ends = [*(row.position for row in recorded[1:]), None]
    # Of a stream that is not projected yet there is nothing, and no end.
    for row, over_at in zip(recorded, ends, strict=False):
        event = decode(row, FRAUD_LISTING)
        if isinstance(event, Listed):
            yield ListingRow(
                id=listing_id,
                version=row.version,
                list=event.list,
                kind=event.kind,
                value=event.value,
                ends_at=event.ends_at,
                reason=event.reason,
                listed_at=row.recorded_at,
                position=row.position,
                partition=row.partition,
                over_at=over_at,
            )


def expected_labels(label_id: UUID, recorded: Sequence[RecordedEvent]) -> Iterable[LabelRow]:
    """The row that a transaction's labels come to."""
    for row in recorded[-1:]:
        event = decode(row, FRAUD_LABEL)
        yield LabelRow(
            id=label_id,
            transaction_id=UUID(event.transaction_id),
            label=event.label,
            reason=event.reason,
            labelled_at=row.recorded_at,
        )


def expected_rule_sets(set_id: UUID, recorded: Sequence[RecordedEvent]) -> Iterable[RuleSetRow]:
    """The row of a rule set."""
    for row in recorded[:1]:
        event = decode(row, FRAUD_RULES)
        yield RuleSetRow(id=set_id, hash=event.hash, text=event.text, adopted_at=row.recorded_at)


FRAUD_LISTINGS = Projection(
    name="fraud_listings",
    aggregates=(FRAUD_LISTING,),
    tables=("fraud_listing",),
    apply=apply_listings,
    expected_rows=expected_listings,
    order_in_stream=("version",),
)
FRAUD_LABELS = Projection(
    name="fraud_labels",
    aggregates=(FRAUD_LABEL,),
    tables=("fraud_label",),
    apply=apply_labels,
    expected_rows=expected_labels,
)
FRAUD_RULE_SETS = Projection(
    name="fraud_rule_sets",
    aggregates=(FRAUD_RULES,),
    tables=("fraud_rule_set",),
    apply=apply_rule_sets,
    expected_rows=expected_rule_sets,
)
