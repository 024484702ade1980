"""The view of alerts about flagged transactions: one row for each and channel, newest first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from psycopg import Cursor, sql
from pydantic import BaseModel

from codebase.engine.log.codec import decode
from codebase.engine.log.events import RecordedEvent
from codebase.engine.projections.logged_events import LoggedEvent
from codebase.engine.projections.projection import Projection, of_type, write
from codebase.foundation.arrays import texts
from codebase.model.payments.alert import (
    ALERT,
    AlertDelayed,
    AlertDied,
    AlertFinished,
    AlertRaised,
    AlertRetried,
    AlertSent,
    AlertSilenced,
    AlertState,
    Channel,
)
from codebase.views.payments.transactions import CardShown
from codebase.web.pages import PageSize
from codebase.web.schemas import example


@dataclass(frozen=True, kw_only=True, slots=True)
class AlertRow:
    """One alert, as it stands."""

    id: UUID
    transaction_id: UUID
    channel: str
    client: str
    raised_at: datetime
    state: str
    state_at: datetime
    amount: Decimal
    currency: str
    card_brand: str
    card_last_four: str
    score: str
    rules: list[str]
    reason: str | None
    refused: list[str]


INSERT_RAISED = """
    INSERT INTO alert (
        id, transaction_id, channel, client, raised_at, state, state_at, amount, currency,
        card_brand, card_last_four, score, rules, refused
    )
    SELECT event.stream_id, raised.transaction_id, raised.channel, raised.client,
           event.recorded_at, 'pending', event.recorded_at, raised.amount, raised.currency,
           raised.card_brand, raised.card_last_four, raised.score, raised.rules, '[]'
    FROM unnest(%(stream_id)b::uuid[], %(recorded_at)b::timestamptz[],
                %(data)b::text[]::jsonb[]) AS event (stream_id, recorded_at, data),
        jsonb_to_record(event.data -> 'alert') AS raised (
            transaction_id uuid, channel text, client text, amount numeric, currency text,
            card_brand text, card_last_four text, score text, rules jsonb
        )
"""

# Of several changes of one alert the last one counts; only what sends it knows whom it missed.
CHANGE = """
    UPDATE alert
    SET state = change.state, state_at = change.recorded_at, reason = change.reason,
        refused = coalesce(change.refused, '[]')
    FROM (
        SELECT DISTINCT ON (stream_id) stream_id, state, recorded_at, data -> 'refused' AS refused,
               coalesce(data ->> 'reason', 'silence ' || (data ->> 'silence_id')) AS reason
        FROM unnest(%(stream_id)b::uuid[], %(version)b::integer[], %(recorded_at)b::timestamptz[],
                    %(data)b::text[]::jsonb[], %(state)b::text[])
            AS event (stream_id, version, recorded_at, data, state)
        ORDER BY stream_id, version DESC
    ) AS change
    WHERE alert.id = change.stream_id
"""

STATE_AFTER = {
    AlertDelayed.__name__: AlertState.RETRYING.value,
    AlertSent.__name__: AlertState.SENT.value,
    # It stays what it is, and is told of once more.
    AlertFinished.__name__: AlertState.SENT.value,
    AlertDied.__name__: AlertState.DEAD.value,
    AlertSilenced.__name__: AlertState.SILENCED.value,
    AlertRetried.__name__: AlertState.PENDING.value,
}


def apply(cursor: Cursor[Any], events: Sequence[LoggedEvent]) -> None:
    """Insert what was raised, then note what became of it."""
    changes = [event for event in events if event.type in STATE_AFTER]
    write(cursor, INSERT_RAISED, of_type(events, AlertRaised))
    write(cursor, CHANGE, changes, state=texts([STATE_AFTER[event.type] for event in changes]))


def expected_rows(alert_id: UUID, recorded: Sequence[RecordedEvent]) -> Iterable[AlertRow]:
    """The row that an alert's stream comes to, by the model's fold."""
    events = [decode(row, ALERT) for row in recorded]
    if not events or not isinstance(events[0], AlertRaised):
        return
    state = ALERT.fold(events)
    assert state is not None, "it was raised"  # noqa: S101 - an invariant
    alert = state.alert
    yield AlertRow(
        id=alert_id,
        transaction_id=alert.transaction_id,
        channel=alert.channel.value,
        client=alert.client,
        raised_at=recorded[0].recorded_at,
        state=state.state.value,
        state_at=recorded[-1].recorded_at,
        amount=alert.amount,
        currency=alert.currency,
        card_brand=alert.card_brand,
        card_last_four=alert.card_last_four,
        score=alert.score,
        rules=list(alert.rules),
        reason=state.reason,
        refused=list(state.refused),
    )


ALERT_ROWS = Projection(
    name="alerts",
    aggregates=(ALERT,),
    tables=("alert",),
    apply=apply,
    expected_rows=expected_rows,
)

CATEGORIES = frozenset({ALERT.category})
PAGE_ARGUMENTS = ("states", "references", "sizes")

SHOWN = """
    found.id, found.transaction_id AS "transactionID", found.channel, found.client,
    found.raised_at, found.state, found.state_at, round(found.amount, 2)::text AS amount,
    found.currency,
    json_build_object('brand', found.card_brand, 'last_four', found.card_last_four) AS card,
    found.score, found.rules, found.reason, found.refused
"""

# The pages, newest first, of one state or of all of them: see views/payments/transactions.py.
WAYS = {"asked.state IS NULL": (), "asked.state IS NOT NULL": ("state",)}
WAY = """(
    SELECT {shown} FROM alert AS found
    WHERE {taken} {bound} AND ({columns}) < ({start})
    ORDER BY {order}
    LIMIT asked.size
)"""
PAGES = """
    SELECT asked.ordinal, asked.reference IS NULL OR boundary.id IS NOT NULL,
           page.items::text, page.items -> -1 ->> 'id'
    FROM unnest(%(states)b::text[], %(references)b::uuid[], %(sizes)b::integer[])
        WITH ORDINALITY AS asked (state, reference, size, ordinal)
    LEFT JOIN alert AS boundary ON boundary.id = asked.reference
    CROSS JOIN LATERAL (
        SELECT CASE WHEN asked.reference IS NULL THEN 'infinity' ELSE boundary.raised_at END
                   AS raised_at,
               coalesce(asked.reference, 'ffffffff-ffff-ffff-ffff-ffffffffffff') AS id
    ) AS start
    LEFT JOIN LATERAL (
        SELECT json_agg(row_to_json(one)) AS items FROM ({ways}) AS one
    ) AS page ON true
"""


def _way(taken: str, fixed: Sequence[str]) -> sql.Composed:
    """One way into the table, by the index that begins with these columns."""
    of_table = [sql.Identifier("found", name) for name in [*fixed, "raised_at", "id"]]
    where_it_starts = [sql.Identifier("asked", name) for name in fixed]
    bounds = [sql.SQL("AND {} >= {}").format(of_table[0], where_it_starts[0])] if fixed else []
    return sql.SQL(WAY).format(
        shown=sql.SQL(SHOWN),
        taken=sql.SQL(taken),
        bound=sql.SQL(" ").join(bounds),
        columns=sql.SQL(", ").join(of_table),
        start=sql.SQL(", ").join([*where_it_starts, sql.SQL("start.raised_at, start.id")]),
        order=sql.SQL(", ").join(sql.SQL("{} DESC").format(name) for name in of_table),
    )


def pages() -> str:
    """The query for pages."""
    ways = sql.SQL(" UNION ALL ").join(_way(taken, fixed) for taken, fixed in WAYS.items())
    return sql.SQL(PAGES).format(ways=ways).as_string()


class AlertShown(BaseModel):
    """An alert, as it stands; `reason` says why it is not sent, `refused` whom it did not reach."""

    model_config = example(
        id="8f0d7f0c-7d52-5f43-9a0e-3f1f5d2c6b71",
        transactionID="6f1c2b1e-58f4-4f0e-9d2a-6b7d5a0c9e11",
        channel="email",
        client="shop",
        raised_at="2026-11-28T09:30:00.000000+00:00",
        state="dead",
        state_at="2026-11-28T09:30:00.125000+00:00",
        amount="123.00",
        currency="INR",
        card={"brand": "visa", "last_four": "1111"},
        score="60",
        rules=["card_velocity"],
        reason="550 no such mailbox",
        refused=[],
    )

    id: UUID
    transactionID: UUID  # noqa: N815 - a contract
    channel: Channel
    client: str
    raised_at: datetime
    state: AlertState
    state_at: datetime
    amount: Decimal
    currency: str
    card: CardShown
    score: str
    rules: list[str]
    reason: str | None
    refused: list[str]


class AlertPage(BaseModel):
    """Alerts, newest first; `last_reference` leads to older ones; null on an empty page."""

    items: list[AlertShown]
    last_reference: UUID | None
    size: PageSize
