"""Prices of use: how teams that charge for it keep them, and by which of them a time is charged.

Each team has a table of its own, with the columns of `PriceRow`, one row for each event.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import UUID

from psycopg import Cursor, sql

from codebase.engine.log.codec import decode
from codebase.engine.log.events import RecordedEvent
from codebase.engine.projections.logged_events import LoggedEvent
from codebase.engine.projections.projection import Projection, write
from codebase.model.accounts.account import Region
from codebase.model.accounts.price_list import PRICE_LIST, holds_from

INSERT_SET = """
    INSERT INTO {prices} (id, version, region, from_day, holds_from, per_hour, set_at)
    SELECT event.stream_id, event.version, price.region, price.from_day,
           greatest(
               price.from_day::timestamp AT TIME ZONE 'UTC',
               date_trunc('month', event.recorded_at, 'UTC')
           ),
           price.per_hour, event.recorded_at
    FROM unnest(%(stream_id)b::uuid[], %(version)b::integer[], %(recorded_at)b::timestamptz[],
                %(data)b::text[]::jsonb[])
        AS event (stream_id, version, recorded_at, data),
        jsonb_to_record(event.data) AS price (region text, from_day date, per_hour numeric)
    WHERE %(region)s::text IS NULL OR price.region = %(region)s::text
    ON CONFLICT DO NOTHING
"""

# The parts of the time that is asked for, in which `region` has one price each: where they begin;
# what an hour costs in them, NULL before the first price that was set; where they begin and end.
PARTS = """
    SELECT array_agg(part.begins ORDER BY part.begins) AS begins,
           array_agg(part.per_hour ORDER BY part.begins) AS prices,
           array_agg(part.begins ORDER BY part.begins) || asked.until AS bounds
    FROM (
        SELECT asked.since AS begins, (
            SELECT price.per_hour FROM {prices} AS price
            WHERE price.region = {region} AND price.holds_from <= asked.since
            ORDER BY price.holds_from DESC, price.version DESC
            LIMIT 1
        ) AS per_hour
        UNION ALL
        (
            SELECT DISTINCT ON (price.holds_from) price.holds_from, price.per_hour
            FROM {prices} AS price
            WHERE price.region = {region}
              AND price.holds_from > asked.since AND price.holds_from < asked.until
            ORDER BY price.holds_from, price.version DESC
        )
    ) AS part
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class PriceRow:
    """A price, as it was set; `id` and `version` are those of its event."""

    id: UUID
    version: int
    region: str
    from_day: date
    holds_from: datetime
    per_hour: Decimal
    set_at: datetime


def parts(prices: str, region: sql.Composable) -> sql.Composed:
    """A lateral query for the parts of the time from `asked.since` to `asked.until`.

    Args:
        prices: the team's table.
        region: whose parts they are.
    """
    return sql.SQL(PARTS).format(prices=sql.Identifier(prices), region=region)


def prices_projection(name: str, table: str, region: Region | None = None) -> Projection:
    """The prices of a team that looks after one region, or after all of them."""
    insert = sql.SQL(INSERT_SET).format(prices=sql.Identifier(table)).as_string()
    return Projection(
        name=name,
        aggregates=(PRICE_LIST,),
        tables=(table,),
        apply=partial(_apply, insert, region),
        expected_rows=partial(expected_rows, region),
        order_in_stream=("version",),
    )


def _apply(
    insert: str, region: Region | None, cursor: Cursor[Any], events: Sequence[LoggedEvent]
) -> None:
    write(cursor, insert, events, region=region)


def expected_rows(
    region: Region | None, stream_id: UUID, recorded: Sequence[RecordedEvent]
) -> Iterable[PriceRow]:
    """The rows that the stream of prices comes to, one for each event."""
    for row in recorded:
        event = decode(row, PRICE_LIST)
        if region in {None, event.region}:
            yield PriceRow(
                id=stream_id,
                version=row.version,
                region=event.region,
                from_day=event.from_day,
                holds_from=holds_from(event, row.recorded_at),
                per_hour=event.per_hour,
                set_at=row.recorded_at,
            )
