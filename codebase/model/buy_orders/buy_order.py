"""A client buys bitcoin for an amount of money, at the price of the moment, within a limit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import assert_never

from codebase.model.aggregate import Aggregate, Guard, Spend
from codebase.model.buy_orders.bitcoin import btc_for
from codebase.model.money import Currency
from codebase.model.refusals import Conflict, Rejected, Unavailable

ORDER_BOOK = "order_book_btc"


# Events: names and fields are the storage format. Add fields with defaults, never rename.
@dataclass(frozen=True, kw_only=True, slots=True)
class BuyOrderPlaced:
    """The order stands, and its bitcoin amount is taken from the order book."""

    client: str
    idempotence_key: str
    currency: Currency
    currency_amount: Decimal
    btc_rate: Decimal
    btc_amount: Decimal
    price_source: str


Event = BuyOrderPlaced


@dataclass(frozen=True, kw_only=True, slots=True)
class Price:
    """What one bitcoin costs in `currency`, and which source said so."""

    currency: Currency
    rate: Decimal
    source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class PlaceBuyOrder:
    """Buy bitcoin for `currency_amount`; `price` is None when none is young enough."""

    client: str
    idempotence_key: str
    currency: Currency
    currency_amount: Decimal
    price: Price | None


Command = PlaceBuyOrder


@dataclass(frozen=True, kw_only=True, slots=True)
class Placed:
    """An order that stands; it never changes."""

    order: BuyOrderPlaced


State = Placed


class OrderBookLimit(Conflict):
    """The order does not fit into what is left of the order book."""

    problem = "order-book-limit"


def evolve(_state: State | None, event: Event) -> State:
    """The order as placed."""
    match event:
        case BuyOrderPlaced():
            return Placed(order=event)
        case _:
            assert_never(event)


def decide(command: Command, state: State | None) -> list[Event]:
    """Place the order at the price that the command brings; a placed order stays as it is.

    Raises:
        Unavailable: there is no price to buy at.
    """
    match command, state:
        case PlaceBuyOrder(), Placed():
            return []
        case PlaceBuyOrder(price=None), None:
            raise Unavailable("no bitcoin price is young enough to buy at")
        case PlaceBuyOrder(price=Price() as price), None:
            return [
                BuyOrderPlaced(
                    client=command.client,
                    idempotence_key=command.idempotence_key,
                    currency=command.currency,
                    currency_amount=command.currency_amount,
                    btc_rate=price.rate,
                    btc_amount=btc_for(command.currency_amount, price.rate),
                    price_source=price.source,
                )
            ]
        case _:
            raise AssertionError("every buy order command and state is decided above")


def guards(event: Event) -> Sequence[Guard]:
    """Every placed order is spent from the order book."""
    return (Spend(ORDER_BOOK, event.btc_amount),)


def topic(_event: Event) -> str:
    """The routing key of an event."""
    return "buy_order.placed"


def order_book_limit(left: str) -> Rejected:
    """The refusal of an order that does not fit; `left` is in bitcoin."""
    return OrderBookLimit(
        f"the order book has {left} BTC left; a smaller order may still succeed", left_btc=left
    )


BUY_ORDER: Aggregate[Command, Event, State] = Aggregate(
    category="buy_order",
    events=(BuyOrderPlaced,),
    decide=decide,
    evolve=evolve,
    guards=guards,
    topic=topic,
    refusals={ORDER_BOOK: order_book_limit},
)
