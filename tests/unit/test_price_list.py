"""The rules of prices: given what was set, when a price is set, then this follows."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codebase.model.accounts.account import Region
from codebase.model.accounts.price_list import (
    PRICE_LIST,
    Held,
    PriceSet,
    SetPrice,
    TooEarly,
    holds_from,
    parse_day,
    parse_price,
    parts_within,
)
from codebase.model.accounts.usage import FIRST_PRICES

TODAY = date(2026, 11, 28)
TOMORROW = date(2026, 11, 29)
OLD, NEW = Decimal("1.1000"), Decimal("1.2500")


def setting(day: date = TOMORROW, per_hour: Decimal = NEW, region: Region = Region.NAM) -> SetPrice:
    return SetPrice(region=region, from_day=day, per_hour=per_hour, today=TODAY)


def was_set(day: date = TOMORROW, per_hour: Decimal = NEW, region: Region = Region.NAM) -> PriceSet:
    return PriceSet(region=region, from_day=day, per_hour=per_hour)


@pytest.mark.parametrize(
    ("given_events", "when", "then"),
    [
        pytest.param([], setting(), [was_set()], id="a price is set from tomorrow on"),
        pytest.param([was_set()], setting(), [], id="a repeat changes nothing"),
        pytest.param(
            [was_set(per_hour=OLD)], setting(), [was_set()], id="a coming price is replaced"
        ),
        pytest.param(
            [was_set(region=Region.APAC)], setting(), [was_set()], id="each region has its own"
        ),
        pytest.param(
            [was_set(), was_set(per_hour=OLD)],
            setting(),
            [was_set()],
            id="what was replaced can be set once more",
        ),
        pytest.param(
            [was_set(TODAY)], setting(TODAY), [], id="what holds already is no change of the past"
        ),
    ],
)
def test_deciding(given_events: list[PriceSet], when: SetPrice, then: list[PriceSet]) -> None:
    assert PRICE_LIST.decide(when, PRICE_LIST.fold(given_events)) == then


@pytest.mark.parametrize("day", [TODAY, TODAY - timedelta(days=1), date(2026, 10, 31)])
def test_what_has_been_used_keeps_its_price(day: date) -> None:
    with pytest.raises(TooEarly, match="from_day must be after today") as refused:
        PRICE_LIST.decide(setting(day), PRICE_LIST.fold([was_set(day, OLD)]))
    assert refused.value.facts == {"today": "2026-11-28"}


@pytest.mark.parametrize(
    ("recorded_at", "begins"),
    [
        (datetime(2026, 11, 28, 23, tzinfo=UTC), datetime(2026, 11, 29, tzinfo=UTC)),
        (datetime(2026, 11, 30, 23, tzinfo=UTC), datetime(2026, 11, 29, tzinfo=UTC)),
        (datetime(2026, 12, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)),
        (datetime(2027, 2, 1, 5, tzinfo=UTC), datetime(2027, 2, 1, tzinfo=UTC)),
    ],
)
def test_no_event_reaches_into_a_month_before_its_own(
    recorded_at: datetime, begins: datetime
) -> None:
    assert holds_from(was_set(), recorded_at) == begins


@pytest.mark.parametrize(
    ("text", "price"), [("1", "1.0000"), ("0.0001", "0.0001"), ("999999.9999", "999999.9999")]
)
def test_a_price_has_four_decimals(text: str, price: str) -> None:
    assert str(parse_price(text)) == price


@pytest.mark.parametrize(
    "text",
    ["", "0", "0.0000", "1000000", "-1", "+1", "1.00001", "1e3", "01", "1,5", "\u0661", " 1"],
)
def test_what_is_no_price_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^must "):
        parse_price(text)


@pytest.mark.parametrize(
    "text", ["", "2026-11", "2026-13-01", "2027-02-29", "1999-12-31", "3000-01-01", "20261201"]
)
def test_what_is_no_day_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^must be a day such as"):
        parse_day(text)


days = st.dates(date(2026, 10, 1), date(2026, 12, 31))
prices = st.decimals("0.0001", 100, places=4)
histories = st.lists(st.tuples(st.sampled_from(Region), days, prices), max_size=12)


@given(histories, st.sampled_from(Region), days, st.integers(1, 70), st.integers(0, 69))
def test_each_moment_costs_what_was_set_last_for_the_latest_day_before_it(
    history: list[tuple[Region, date, Decimal]], region: Region, first: date, length: int, at: int
) -> None:
    """Looked up day by day, without intervals."""
    since = midnight(first)
    until = since + timedelta(days=length)
    held = [
        Held(region=one, holds_from=midnight(day), per_hour=price) for one, day, price in history
    ]
    parts = parts_within(held, region, since, until)
    assert parts[0].begin == since
    begins = [part.begin for part in parts]
    assert begins == sorted(set(begins))
    assert begins[-1] < until
    moment = since + timedelta(days=at % length, hours=7)
    expected = FIRST_PRICES[region].per_hour
    for day in (first.replace(month=9, day=30) + timedelta(days=n) for n in range(170)):
        if midnight(day) <= moment:
            expected = next(
                (p for r, d, p in reversed(history) if (r, d) == (region, day)), expected
            )
    assert next(part for part in reversed(parts) if part.begin <= moment).per_hour == expected


def midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
