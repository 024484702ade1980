"""Which price is believed, and for how long."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise

import pytest
from pydantic import ValidationError

from codebase.foundation.errors import ConfigurationError
from codebase.model.buy_orders.btc_price import Quote, choose, demo_quote, parse_rate
from codebase.model.buy_orders.buy_order import Price
from codebase.model.money import Currency
from codebase.services.btc_price.sources import chosen_sources
from codebase.views.buy_orders.prices import FetchedRecord, Prices
from codebase.views.buy_orders.settings import BuyOrderSettings

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
MAX_JUMP = Decimal("0.2")


def quote(source: str, rate: str) -> Quote:
    return Quote(currency=Currency.USD, rate=Decimal(rate), source=source, quoted_at=NOON)


COINBASE, KRAKEN, BITSTAMP = (
    quote("coinbase", "100"),
    quote("kraken", "101"),
    quote("bitstamp", "99"),
)
JUMPED, JUMPED_TOO = quote("coinbase", "300"), quote("bitstamp", "310")

CHOICES = {
    "the first source is preferred": (COINBASE, [COINBASE, KRAKEN], COINBASE),
    "the next source stands in": (COINBASE, [KRAKEN, BITSTAMP], KRAKEN),
    "nobody answered": (COINBASE, [], None),
    "the very first price is believed": (None, [JUMPED], JUMPED),
    "a jump waits for a second source": (COINBASE, [JUMPED], None),
    "a jump gives way to a source that did not jump": (COINBASE, [JUMPED, KRAKEN], KRAKEN),
    "a jump that a second source confirms is believed": (COINBASE, [JUMPED, JUMPED_TOO], JUMPED),
    "a fall is a jump too": (JUMPED, [quote("coinbase", "200")], None),
    "a source does not confirm itself": (COINBASE, [JUMPED, JUMPED], None),
    "just within the limit": (COINBASE, [quote("kraken", "120")], quote("kraken", "120")),
    "just beyond the limit": (COINBASE, [quote("kraken", "120.01")], None),
}


@pytest.mark.parametrize(("last", "quotes", "chosen"), CHOICES.values(), ids=CHOICES.keys())
def test_of_what_the_sources_say_one_price_is_believed(
    last: Quote | None, quotes: list[Quote], chosen: Quote | None
) -> None:
    assert choose(last, quotes, MAX_JUMP) == chosen


@pytest.mark.parametrize("text", ["48478.88", "0.00000001", "1", "999999999999"])
def test_a_rate_is_taken_exactly(text: str) -> None:
    assert parse_rate(text) == Decimal(text)


@pytest.mark.parametrize(
    "text",
    [
        "NaN",
        "Infinity",
        "-1",
        "0",
        "1e5",
        "",
        "1,5",
        "0.000000001",
        "1" + "0" * 12,
        "１",
        None,
        1.5,
        [],
    ],
)
def test_a_rate_that_makes_no_sense_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="rate"):
        parse_rate(text)


def test_the_made_up_price_is_the_same_for_everyone_and_moves_in_small_steps() -> None:
    rates = [
        demo_quote(Currency.USD, NOON + timedelta(seconds=15 * step)).rate for step in range(1_000)
    ]
    again = demo_quote(Currency.USD, NOON)
    assert (again.rate, again.source) == (rates[0], "demo")
    steps = [abs(later - rate) for rate, later in pairwise(rates)]
    assert 0 < max(steps) < Decimal(5)
    assert len(set(rates)) > 100


def test_the_made_up_price_is_for_development_only() -> None:
    with pytest.raises(ConfigurationError, match="demo"):
        chosen_sources(BuyOrderSettings(btc_price_sources=("coinbase", "demo")))
    assert "demo" not in chosen_sources(BuyOrderSettings())
    assert chosen_sources(BuyOrderSettings(development=True))[-1] == "demo"
    with pytest.raises(ConfigurationError, match="nowhere"):
        chosen_sources(BuyOrderSettings(btc_price_sources=("nowhere",)))


class Clock:
    """A monotonic clock that the test moves."""

    def __init__(self) -> None:
        self.seconds = 1_000.0

    def __call__(self) -> float:
        return self.seconds


def record(age_s: float = 0, rate: str = "48478.88") -> FetchedRecord:
    price = {"currency": "USD", "rate": rate, "source": "kraken", "age_s": age_s, "stale": False}
    return FetchedRecord.model_validate({"prices": [price]})


def test_a_price_can_be_bought_at_until_it_is_too_old_the_services_share_included() -> None:
    clock = Clock()
    prices = Prices(BuyOrderSettings(btc_price_max_age_s=60), clock)
    assert prices.current(Currency.USD) is None
    prices.take(record(age_s=50), asked_at=clock.seconds)
    expected = Price(currency=Currency.USD, rate=Decimal("48478.88"), source="kraken")
    assert prices.current(Currency.USD) == expected
    assert prices.current(Currency.EUR) is None
    clock.seconds += 10
    assert prices.current(Currency.USD) == expected
    clock.seconds += 0.1
    assert prices.current(Currency.USD) is None
    prices.take(record(age_s=0), asked_at=clock.seconds)
    assert prices.current(Currency.USD) == expected


@pytest.mark.parametrize(
    ("age_s", "rate"),
    [
        (-1, "1"),
        (float("nan"), "1"),
        (float("inf"), "1"),
        (0, "NaN"),
        (0, "Infinity"),
        (0, "0"),
        (0, "-1"),
        (0, "0.000000001"),
        (0, "1e99"),
    ],
)
def test_a_price_that_no_order_can_be_placed_at_is_not_taken(age_s: float, rate: str) -> None:
    with pytest.raises(ValidationError):
        record(age_s, rate)
