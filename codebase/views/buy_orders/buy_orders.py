"""The view of buy orders: one row for each order that was placed, shown newest first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, NamedTuple
from uuid import UUID

from psycopg import Cursor
from pydantic import BaseModel

from codebase.engine.log.codec import fold
from codebase.engine.log.events import RecordedEvent
from codebase.engine.projections.logged_events import LoggedEvent
from codebase.engine.projections.projection import Projection, columns
from codebase.model.buy_orders.buy_order import BUY_ORDER, BuyOrderPlaced
from codebase.model.money import Currency
from codebase.model.refusals import NotFound
from codebase.web.parked import asking_by_id
from codebase.web.schemas import MayBeAbsent, example


@dataclass(frozen=True, kw_only=True, slots=True)
class BuyOrderRow:
    """One placed order, as queries show it."""

    id: UUID
    client: str
    placed_at: datetime
    currency: str
    currency_amount: Decimal
    btc_rate: Decimal
    btc_amount: Decimal
    price_source: str


def row_of(event: BuyOrderPlaced, *, order_id: UUID, placed_at: datetime) -> BuyOrderRow:
    """The row that a placed order becomes.

    Args:
        event: what was recorded.
        order_id: the stream's id.
        placed_at: when the log recorded it, in UTC.
    """
    return BuyOrderRow(
        id=order_id,
        client=event.client,
        placed_at=placed_at,
        currency=event.currency,
        currency_amount=event.currency_amount,
        btc_rate=event.btc_rate,
        btc_amount=event.btc_amount,
        price_source=event.price_source,
    )


INSERT_PLACED = """
    INSERT INTO buy_order (id, client, placed_at, currency, currency_amount, btc_rate, btc_amount,
                           price_source)
    SELECT event.stream_id, placed.client, event.recorded_at, placed.currency,
           placed.currency_amount, placed.btc_rate, placed.btc_amount, placed.price_source
    FROM unnest(%(stream_id)b::uuid[], %(type)b::text[], %(recorded_at)b::timestamptz[],
                %(data)b::text[])
        AS event (stream_id, type, recorded_at, data),
        json_to_record(event.data::json) AS placed (
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
    aggregates=(BUY_ORDER,),
    tables=("buy_order",),
    apply=apply,
    expected_rows=expected_rows,
    only_inserts=True,
)

# The pages, newest first; see web/group_read.py for how many requests share one.
#
# Keyset pages: the row after `reference` is found by an index, so that every page costs the same.
# Of the two ways into the table a request takes one, depending on whether it asks for one client's
# orders or for everybody's (client NULL), see Caller.only_client. The client is compared as the
# first part of the order. Were it just equal, Postgres might take the other index and look at row
# after row, as it does where a single client has nearly everything.
PAGE_ARGUMENTS = ("clients", "references", "sizes")
ORDER_ARGUMENTS = ("clients", "ids")

# The first page starts behind the end of time. A request whose page is empty gets one row without
# an order, which says whether its reference is known.
PAGES = """
    SELECT asked.ordinal, asked.reference IS NULL OR boundary.id IS NOT NULL AS known,
           page.id, page.placed_at, page.currency, round(page.currency_amount, 2)::text,
           round(page.btc_rate, 8)::text, round(page.btc_amount, 8)::text, page.price_source
    FROM unnest(%(clients)b::text[], %(references)b::uuid[], %(sizes)b::integer[])
        WITH ORDINALITY AS asked (client, reference, size, ordinal)
    LEFT JOIN buy_order AS boundary
        ON boundary.id = asked.reference
       AND (asked.client IS NULL OR boundary.client = asked.client)
    CROSS JOIN LATERAL (
        SELECT CASE WHEN asked.reference IS NULL THEN 'infinity' ELSE boundary.placed_at END
                   AS placed_at,
               coalesce(asked.reference, 'ffffffff-ffff-ffff-ffff-ffffffffffff') AS id
    ) AS start
    LEFT JOIN LATERAL (
        (
            SELECT id, placed_at, currency, currency_amount, btc_rate, btc_amount, price_source
            FROM buy_order
            WHERE client >= asked.client
              AND (client, placed_at, id) < (asked.client, start.placed_at, start.id)
            ORDER BY client DESC, placed_at DESC, id DESC
            LIMIT asked.size
        )
        UNION ALL
        (
            SELECT id, placed_at, currency, currency_amount, btc_rate, btc_amount, price_source
            FROM buy_order
            WHERE asked.client IS NULL AND (placed_at, id) < (start.placed_at, start.id)
            ORDER BY placed_at DESC, id DESC
            LIMIT asked.size
        )
    ) AS page ON true
"""

# One order; for everybody's the client is NULL.
ORDERS_BY_ID = """
    SELECT asked.ordinal, found.id, found.placed_at, found.currency,
           round(found.currency_amount, 2)::text, round(found.btc_rate, 8)::text,
           round(found.btc_amount, 8)::text, found.price_source
    FROM unnest(%(clients)b::text[], %(ids)b::uuid[])
        WITH ORDINALITY AS asked (client, id, ordinal)
    JOIN buy_order AS found ON found.id = asked.id
    WHERE asked.client IS NULL OR found.client = asked.client
"""

CATEGORIES = frozenset({BUY_ORDER.category})
ASKING_FOR_PARKED = asking_by_id("buy_order")


class BuyOrder(BaseModel):
    """A placed order; amounts are decimal strings, times UTC.

    `price_source` is there only if it is `demo`: the price was made up.
    """

    model_config = example(
        id="3f493fce-6c0a-4e20-8c1c-15c8fca1b8fe",
        created_at="2026-11-28T09:30:00.000000+00:00",
        currency="USD",
        currency_amount="123.45",
        btc_rate="48478.88000000",
        btc_amount="0.00254647",
    )

    id: UUID
    created_at: datetime
    currency: Currency
    currency_amount: Decimal
    btc_rate: Decimal
    btc_amount: Decimal
    price_source: MayBeAbsent[Literal["demo"]] = None


class Page(BaseModel):
    """Orders, newest first; `last_reference` leads to older ones, and is null on an empty page."""

    rows: list[BuyOrder]
    last_reference: UUID | None


class ShownOrder(NamedTuple):
    """An order as the queries select it: amounts and rates are texts with all their decimals."""

    id: UUID
    placed_at: datetime
    currency: str
    currency_amount: str
    btc_rate: str
    btc_amount: str
    price_source: str

    def answer(self) -> dict[str, str]:
        """As clients see it; only an order at a made-up price says where the price came from."""
        shown = {
            "id": str(self.id),
            "created_at": self.placed_at.isoformat(timespec="microseconds"),
            "currency": self.currency,
            "currency_amount": self.currency_amount,
            "btc_rate": self.btc_rate,
            "btc_amount": self.btc_amount,
        }
        if self.price_source == "demo":
            shown["price_source"] = self.price_source
        return shown


# Where the parts of a page's row are.
KNOWN = 0
ORDER = slice(1, None)


def page_of(rows: Sequence[tuple[Any, ...]]) -> list[ShownOrder]:
    """The orders of a page, as `PAGES` finds them.

    Raises:
        NotFound: the page was to begin after an order that there is not.
    """
    if not rows[0][KNOWN]:
        raise NotFound("last_reference names no order")
    return [ShownOrder._make(row[ORDER]) for row in rows if row[ORDER][0] is not None]
