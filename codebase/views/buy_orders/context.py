"""Buy orders, put together for the rest of the system."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from uuid import uuid4

from codebase.engine.context import AddressOf, Context
from codebase.foundation.settings import Settings, extended
from codebase.model.buy_orders.buy_order import BUY_ORDER, ORDER_BOOK
from codebase.views.buy_orders.buy_orders import BUY_ORDERS
from codebase.views.buy_orders.settings import BuyOrderSettings


def budgets(settings: Settings) -> Mapping[str, Decimal]:
    """The order book, in bitcoin."""
    return {ORDER_BOOK: extended(settings, BuyOrderSettings).order_book_limit_btc}


def welcome(address_of: AddressOf, *, with_tokens: bool) -> str:
    """Where orders are placed and listed, and a first one to try."""
    put, get = f"{address_of('create_buy_order')}/buy_order", address_of("fetch_buy_orders")
    order = {"currency": "EUR", "amount": "123.45", "idempotence_key": str(uuid4())}
    token = "-H 'Authorization: Bearer YOUR_TOKEN' " if with_tokens else ""
    return (
        f"New orders: PUT {put}; the list: GET {get}/buy_orders; "
        f"try: curl -sS -X PUT {put} -H 'Content-Type: application/json' "
        f"{token}-d '{json.dumps(order)}'"
    )


BUY_ORDER_CONTEXT = Context(
    name="buy_orders",
    aggregates=(BUY_ORDER,),
    projections=(BUY_ORDERS,),
    settings=BuyOrderSettings,
    budgets=budgets,
    addresses={"BTC_PRICE_URL": "btc_price"},
    welcome=welcome,
    remembered=("order_book_limit_btc",),
)
