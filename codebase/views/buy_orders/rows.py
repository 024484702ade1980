"""The buy orders of a client, newest first."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from codebase.model.buy_orders.buy_order import BuyOrderPlaced


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
