"""Charges are exact: compared with fractions, over months, blocks and leap days."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codebase.model.accounts.account import Region
from codebase.model.accounts.agent import (
    AgentBlocked,
    AgentCreated,
    AgentRemoved,
    AgentUnblocked,
    Because,
    Event,
)
from codebase.model.accounts.usage import (
    FIRST_PRICES,
    MICROSECOND,
    Interval,
    Month,
    Tariff,
    in_hours,
    in_iso8601,
    microseconds_within,
    usage_of,
)

AGENT, ACCOUNT = UUID(int=1), UUID(int=2)
WHOSE = {
    "agent_id": AGENT,
    "account_id": ACCOUNT,
    "client": "local",
    "region": Region.EMEA,
    "vip": False,
}
CREATED = AgentCreated(**WHOSE, name="Ann", email="ann@example.com")
BLOCKED = AgentBlocked(**WHOSE, reason=None)
UNBLOCKED = AgentUnblocked(**WHOSE, reason=None)
REMOVED = AgentRemoved(**WHOSE, email="ann@example.com", because=Because.REMOVED)
HOUR = 3_600_000_000
YEARS = {"min_value": datetime(2000, 1, 1), "max_value": datetime(2099, 12, 31)}  # noqa: DTZ001
moments = st.datetimes(**YEARS, timezones=st.just(UTC))


def at(hour: int) -> datetime:
    return datetime(2026, 11, 1, tzinfo=UTC) + timedelta(hours=hour)


@pytest.mark.parametrize(
    ("history", "intervals"),
    [
        pytest.param([], [], id="no events, no use"),
        pytest.param([(0, CREATED)], [(0, None)], id="in use since its creation"),
        pytest.param([(0, CREATED), (3, REMOVED)], [(0, 3)], id="until its removal"),
        pytest.param([(0, CREATED), (1, BLOCKED)], [(0, 1)], id="not while blocked"),
        pytest.param(
            [(0, CREATED), (1, BLOCKED), (4, UNBLOCKED)], [(0, 1), (4, None)], id="again after it"
        ),
        pytest.param(
            [(0, CREATED), (1, BLOCKED), (4, REMOVED)], [(0, 1)], id="removed while blocked"
        ),
        pytest.param(
            [
                (0, CREATED),
                (1, BLOCKED),
                (2, UNBLOCKED),
                (3, BLOCKED),
                (9, UNBLOCKED),
                (9, REMOVED),
            ],
            [(0, 1), (2, 3)],
            id="several blocks, and nothing in no time",
        ),
        pytest.param(
            [(0, CREATED), (2, UNBLOCKED), (3, BLOCKED), (4, BLOCKED)],
            [(0, 3)],
            id="what is so already changes nothing",
        ),
    ],
)
def test_an_agent_is_in_use_from_creation_to_removal_except_while_blocked(
    history: list[tuple[int, Event]], intervals: list[tuple[int, int | None]]
) -> None:
    expected = [Interval(at(begin), None if end is None else at(end)) for begin, end in intervals]
    assert usage_of([(at(hour), event) for hour, event in history]) == expected


@given(st.integers(0, 10**13), st.decimals(0, 100, places=4))
def test_a_charge_is_the_exact_amount_rounded_half_up_once(
    microseconds: int, per_hour: Decimal
) -> None:
    charged = Tariff([per_hour]).charge([microseconds])
    assert charged.as_tuple().exponent == -2
    exact = Fraction(microseconds, HOUR) * Fraction(per_hour)
    error = Fraction(charged) - exact
    assert Fraction(-1, 200) < error <= Fraction(1, 200)


@given(
    st.lists(
        st.tuples(st.integers(0, 10**13), st.decimals("0.0001", 100, places=4)),
        min_size=1,
        max_size=6,
    )
)
def test_a_charge_in_parts_is_rounded_once(parts: list[tuple[int, Decimal]]) -> None:
    used, prices = zip(*parts, strict=True)
    exact = sum(Fraction(each, HOUR) * Fraction(price) for each, price in parts)
    error = Fraction(Tariff(prices).charge(used)) - exact
    assert Fraction(-1, 200) < error <= Fraction(1, 200)


@given(st.lists(st.tuples(st.integers(0, 10**13), st.integers(0, 10**13))))
def test_a_total_is_the_sum_of_its_lines(lines: list[tuple[int, int]]) -> None:
    tariff = Tariff([Decimal("0.9760"), Decimal("1.03")])
    assert tariff.total(lines) == sum(map(tariff.charge, lines))
    assert tariff.total(lines).as_tuple().exponent == -2


@pytest.mark.parametrize(
    ("microseconds", "per_hour", "charged"),
    [
        (0, "1", "0.00"),
        (HOUR, "0.085", "0.09"),
        (HOUR // 2, "0.01", "0.01"),
        (HOUR // 2 - 1, "0.01", "0.00"),
        (744 * HOUR, "0.0850", "63.24"),
        (HOUR // 3, "0.03", "0.01"),
    ],
)
def test_charges_by_hand(microseconds: int, per_hour: str, charged: str) -> None:
    assert str(Tariff([Decimal(per_hour)]).charge([microseconds])) == charged


@settings(max_examples=25)  # up to a hundred years of months each
@given(st.lists(moments, min_size=1, max_size=9, unique=True))
def test_months_share_the_use_among_them_without_loss(times: list[datetime]) -> None:
    events = [CREATED, *[BLOCKED, UNBLOCKED] * 4]
    intervals = usage_of(zip(sorted(times), events, strict=False))
    first, last = Month.of(min(times)), Month.of(datetime(2100, 2, 1, tzinfo=UTC))
    months = 12 * (last.year - first.year) + last.number - first.number + 1
    shares = [
        microseconds_within(intervals, month.begin, month.end)
        for month in map(first.plus, range(months))
    ]
    assert sum(shares) == microseconds_within(intervals, first.begin, last.end)
    used = sum(
        (((each.end or last.end) - each.begin) // MICROSECOND for each in intervals), start=0
    )
    assert sum(shares) == used


@pytest.mark.parametrize(
    ("text", "hours"),
    [
        ("2024-02", 29 * 24),
        ("2026-02", 28 * 24),
        ("2100-02", 28 * 24),
        ("2000-02", 29 * 24),
        # Clocks change in March and October in many places, and never in UTC.
        ("2026-03", 31 * 24),
        ("2026-10", 31 * 24),
        ("2026-12", 31 * 24),
    ],
)
def test_months_are_those_of_utc(text: str, hours: int) -> None:
    month = Month.parse(text)
    assert month.end - month.begin == timedelta(hours=hours)
    assert month.end == month.plus(1).begin
    assert str(month) == text
    assert Month.of(month.begin) == month
    assert Month.of(month.end - MICROSECOND) == month
    assert Month.of(month.begin.astimezone(timezone(timedelta(hours=-9)))) == month


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2031",
        "2026-13",
        "2026-00",
        "2026-1",
        "26-01",
        "1999-12",
        "3000-01",
        "2026-01 ",
        "2026-01\n",
        "２０２６-01",
        "2026-01-01",
        "+2026-01",
        "2026/01",
    ],
)
def test_what_is_no_month_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(ValueError, match="must be a month") as refused:
        Month.parse(text)
    assert not text or text not in str(refused.value)


def test_a_running_month_is_charged_up_to_now() -> None:
    month = Month.parse("2026-11")
    now = datetime(2026, 11, 10, tzinfo=UTC)
    assert month.up_to(now) == now
    assert not month.is_over(now)
    assert month.up_to(month.end) == month.end
    assert month.is_over(month.end)
    assert month.plus(1).up_to(now) == month.end, "what has not begun costs nothing"
    assert month.plus(-1).up_to(now) == month.begin
    assert microseconds_within([Interval(month.begin, None)], month.begin, now) == 216 * HOUR


def test_hours_are_exact() -> None:
    assert in_hours(744 * HOUR - 1) == "743:59:59.999999"
    assert in_hours(0) == "0:00:00.000000"
    assert in_hours(HOUR + 61_000_001) == "1:01:01.000001"


def test_durations_are_exact_and_have_no_days() -> None:
    assert in_iso8601(744 * HOUR - 1) == "PT743H59M59.999999S"
    assert in_iso8601(7_401) == "PT0H0M0.007401S"
    assert in_iso8601(400 * 24 * HOUR) == "PT9600H0M0.000000S"


def test_every_region_has_a_price() -> None:
    assert set(FIRST_PRICES) == set(Region)
