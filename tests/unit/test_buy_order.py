"""The rules of a buy order: given what happened, when a command comes, then this follows."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from codebase.model.aggregate import Spend
from codebase.model.buy_orders.buy_order import (
    BUY_ORDER,
    ORDER_BOOK,
    BuyOrderPlaced,
    OrderBookLimit,
    PlaceBuyOrder,
    Price,
)
from codebase.model.money import Currency
from codebase.model.refusals import Rejected, Unavailable

PRICE = Price(currency=Currency.USD, rate=Decimal("48478.88"), source="coinbase")
PLACE = PlaceBuyOrder(
    client="alice",
    idempotence_key="key",
    currency=Currency.USD,
    currency_amount=Decimal("123.45"),
    price=PRICE,
)
PLACED = BuyOrderPlaced(
    client="alice",
    idempotence_key="key",
    currency=Currency.USD,
    currency_amount=Decimal("123.45"),
    btc_rate=Decimal("48478.88"),
    btc_amount=Decimal("0.00254647"),
    price_source="coinbase",
)


@pytest.mark.parametrize(
    ("given", "when", "then"),
    [
        pytest.param([], PLACE, [PLACED], id="an order is placed at the price of the moment"),
        pytest.param([PLACED], PLACE, [], id="a repeat changes nothing"),
        pytest.param(
            [PLACED], replace(PLACE, price=None), [], id="a repeat needs no price to change nothing"
        ),
        pytest.param([], replace(PLACE, price=None), Unavailable, id="no price, no order"),
    ],
)
def test_deciding(
    given: list[BuyOrderPlaced],
    when: PlaceBuyOrder,
    then: list[BuyOrderPlaced] | type[Rejected],
) -> None:
    state = BUY_ORDER.fold(given)
    if isinstance(then, list):
        assert BUY_ORDER.decide(when, state) == then
    else:
        with pytest.raises(then):
            BUY_ORDER.decide(when, state)


def test_a_placed_order_is_what_its_event_says() -> None:
    state = BUY_ORDER.fold([PLACED])
    assert state is not None
    assert state.order == PLACED


def test_every_order_is_spent_from_the_order_book() -> None:
    assert list(BUY_ORDER.guards(PLACED)) == [Spend(ORDER_BOOK, Decimal("0.00254647"))]


def test_a_full_order_book_says_what_is_left() -> None:
    refusal = BUY_ORDER.refusal(ORDER_BOOK, "0.5")
    assert isinstance(refusal, OrderBookLimit)
    assert refusal.facts == {"left_btc": "0.5"}
