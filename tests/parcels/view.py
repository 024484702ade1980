"""The view of parcels: a row for each, also when it was taken."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

from psycopg import Cursor

from codebase.engine.log.codec import fold
from codebase.engine.log.events import RecordedEvent
from codebase.engine.projections.logged_events import LoggedEvent
from codebase.engine.projections.projection import Projection, columns
from tests.parcels.parcel import PARCEL

INSERT_STORED = """
    INSERT INTO parcel (id, client, locker, weight_kg, is_taken)
    SELECT event.stream_id, stored.client, stored.locker, stored.weight_kg, false
    FROM unnest(%(stream_id)b::uuid[], %(type)b::text[], %(data)b::text[]::jsonb[])
        AS event (stream_id, type, data),
        jsonb_to_record(event.data) AS stored (client text, locker text, weight_kg numeric)
    WHERE event.type = 'ParcelStored'
"""

TAKE = """
    UPDATE parcel SET is_taken = true
    FROM unnest(%(stream_id)b::uuid[], %(type)b::text[]) AS event (stream_id, type)
    WHERE parcel.id = event.stream_id AND event.type = 'ParcelTaken'
"""

PAGE_ARGUMENTS = ("references", "sizes")
PAGES = """
    SELECT asked.ordinal, page.id, page.locker, page.weight_kg::text, page.is_taken
    FROM unnest(%(references)b::uuid[], %(sizes)b::integer[])
        WITH ORDINALITY AS asked (reference, size, ordinal)
    CROSS JOIN LATERAL (
        SELECT id, locker, weight_kg, is_taken FROM parcel
        WHERE asked.reference IS NULL OR id > asked.reference
        ORDER BY id LIMIT asked.size
    ) AS page
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class ParcelRow:
    id: UUID
    client: str
    locker: str
    weight_kg: Decimal
    is_taken: bool


def apply(cursor: Cursor[Any], events: Sequence[LoggedEvent]) -> None:
    cursor.execute(INSERT_STORED, columns(events))
    cursor.execute(TAKE, columns(events))


def expected_rows(parcel_id: UUID, recorded: Sequence[RecordedEvent]) -> Iterable[ParcelRow]:
    parcel = fold(PARCEL, recorded)
    if parcel is not None:
        yield ParcelRow(
            id=parcel_id,
            client=parcel.stored.client,
            locker=parcel.stored.locker,
            weight_kg=parcel.stored.weight_kg,
            is_taken=parcel.is_taken,
        )


PARCELS = Projection(
    name="parcels",
    aggregates=(PARCEL,),
    tables=("parcel",),
    apply=apply,
    expected_rows=expected_rows,
)
