"""The view of buy orders: one row for each order that was placed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from psycopg import Cursor

from codebase.engine.log.codec import fold
from codebase.engine.log.events import RecordedEvent
from codebase.engine.projections.logged_events import LoggedEvent
from codebase.engine.projections.projection import Projection, columns
from codebase.model.buy_orders.buy_order import BUY_ORDER
from codebase.views.buy_orders.rows import BuyOrderRow, row_of

INSERT_PLACED = """
    INSERT INTO buy_order (id, client, placed_at, currency, currency_amount, btc_rate, btc_amount,
                           price_source)
    SELECT event.stream_id, placed.client, event.recorded_at, placed.currency,
           placed.currency_amount, placed.btc_rate, placed.btc_amount, placed.price_source
    FROM unnest(%(stream_id)b::uuid[], %(type)b::text[], %(recorded_at)b::timestamptz[],
                %(data)b::text[]::jsonb[])
        AS event (stream_id, type, recorded_at, data),
        jsonb_to_record(event.data) AS placed (
            client text, currency text, currency_amount numeric, btc_rate numeric,
            btc_amount numeric, price_source text
        )
    WHERE event.type = 'BuyOrderPlaced'
"""


def apply(cursor: Cursor[Any], events: Sequence[LoggedEvent]) -> None:
    """Insert a row for each order placed."""
    cursor.execute(INSERT_PLACED, columns(events), prepare=True)


def expected_rows(order_id: UUID, recorded: Sequence[RecordedEvent]) -> Iterable[BuyOrderRow]:
    """The row that an order's stream comes to, by the model's fold."""
    state = fold(BUY_ORDER, recorded)
    if state is not None:
        yield row_of(state.order, order_id=order_id, placed_at=recorded[0].recorded_at)


BUY_ORDERS = Projection(
    name="buy_orders",
    categories=frozenset({BUY_ORDER.category}),
    tables=("buy_order",),
    apply=apply,
    expected_rows=expected_rows,
)
