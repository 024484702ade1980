"""What agents cost: a price for each hour of use, counted exactly, charged month by month.

What was used costs what the price was then: a month in which it changes is charged in parts.

An agent is in use from its creation to its removal, except while it is blocked. Everything here is
whole numbers of microseconds and cents; there is one rounding, half up, of each agent's month.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from codebase.model.accounts.account import Region
from codebase.model.accounts.agent import (
    AgentBlocked,
    AgentCreated,
    AgentRemoved,
    AgentUnblocked,
    Event,
)
from codebase.model.money import Currency

MICROSECOND = timedelta(microseconds=1)
MICROSECONDS_PER_SECOND = 1_000_000
SECONDS_PER_MINUTE = MINUTES_PER_HOUR = 60
MICROSECONDS_PER_HOUR = 3_600 * MICROSECONDS_PER_SECOND
CENTS = 100
MONTHS_PER_YEAR = 12
MONTH = re.compile(r"(2[0-9]{3})-(0[1-9]|1[0-2])", re.ASCII)
"""Up to the year 2999: nobody means a later one."""


@dataclass(frozen=True, slots=True)
class Price:
    """What an agent costs for an hour of use."""

    per_hour: Decimal
    currency: Currency


FIRST_PRICES: Mapping[Region, Price] = {
    Region.EMEA: Price(Decimal("1.1850"), Currency.EUR),
    Region.NAM: Price(Decimal("1.2925"), Currency.USD),
    Region.APAC: Price(Decimal("0.9760"), Currency.USD),
}
"""Until the first day for which another one was set; a region keeps its currency."""


@dataclass(frozen=True, slots=True)
class Part:
    """A time of which each hour costs the same, up to the next part's `begin`."""

    begin: datetime
    per_hour: Decimal


@dataclass(frozen=True, order=True, slots=True)
class Month:
    """A month of the calendar, in UTC."""

    year: int
    number: int

    @classmethod
    def parse(cls, text: str) -> Month:
        """The month that `text`, such as 2026-02, stands for.

        Raises:
            ValueError: a sentence that says what is wrong; it never repeats the text.
        """
        found = MONTH.fullmatch(text)
        if not found:
            raise ValueError("must be a month such as 2026-02, from the year 2000 on")
        return cls(int(found[1]), int(found[2]))

    @classmethod
    def of(cls, moment: datetime) -> Month:
        """The month that a moment of any time zone lies in."""
        in_utc = moment.astimezone(UTC)
        return cls(in_utc.year, in_utc.month)

    @property
    def begin(self) -> datetime:
        """The month's first moment."""
        return datetime(self.year, self.number, 1, tzinfo=UTC)

    @property
    def end(self) -> datetime:
        """The first moment after the month."""
        return self.plus(1).begin

    def plus(self, months: int) -> Month:
        """So many months later, or earlier."""
        years, number = divmod(self.number - 1 + months, MONTHS_PER_YEAR)
        return Month(self.year + years, number + 1)

    def up_to(self, now: datetime) -> datetime:
        """Until when the month is charged at the moment `now`: never further than it has come."""
        return min(max(self.begin, now), self.end)

    def is_over(self, now: datetime) -> bool:
        """Whether nothing that happens from `now` on can change what it costs."""
        return now >= self.end

    def __str__(self) -> str:
        return f"{self.year:04d}-{self.number:02d}"


@dataclass(frozen=True, slots=True)
class Interval:
    """A time of use, from `begin` up to but without `end`; None: it is going on."""

    begin: datetime
    end: datetime | None


def usage_of(history: Iterable[tuple[datetime, Event]]) -> list[Interval]:
    """When an agent was in use.

    Args:
        history: when each of the agent's events was recorded, and the event, in log order.

    Returns:
        Intervals in order; none is empty, and between two of them is a time without use.
    """
    intervals: list[Interval] = []
    since: datetime | None = None
    for recorded_at, event in history:
        match event:
            case AgentCreated() | AgentUnblocked():
                since = since or recorded_at
            case AgentBlocked() | AgentRemoved():
                if since is not None and since < recorded_at:
                    intervals.append(Interval(since, recorded_at))
                since = None
    return intervals if since is None else [*intervals, Interval(since, None)]


def microseconds_within(intervals: Iterable[Interval], begin: datetime, until: datetime) -> int:
    """How long the intervals overlap the time from `begin` to `until`, in microseconds."""
    overlaps = (
        min(until, interval.end or until) - max(begin, interval.begin) for interval in intervals
    )
    return sum(overlap // MICROSECOND for overlap in overlaps if overlap > timedelta(0))


class Tariff:
    """What use costs in a time that has one price or several, one after the other.

    Args:
        prices: for an hour, part by part.
    """

    def __init__(self, prices: Sequence[Decimal]) -> None:
        ratios = [price.as_integer_ratio() for price in prices]
        denominator = math.lcm(*(below for _, below in ratios))
        self._factors = [2 * CENTS * above * (denominator // below) for above, below in ratios]
        self._half = MICROSECONDS_PER_HOUR * denominator

    def charge(self, microseconds: Sequence[int]) -> Decimal:
        """What an agent's use costs, with two decimals: the exact amount, rounded half up once.

        Args:
            microseconds: of use, in each part.
        """
        return self.total([microseconds])

    def total(self, lines: Iterable[Sequence[int]]) -> Decimal:
        """The sum of what each of `lines` is charged: the use of an agent, as `charge` takes it."""
        half, whole = self._half, 2 * self._half
        if len(self._factors) == 1:
            # As nearly always, in half the time.
            (factor,) = self._factors
            cents = sum((used * factor + half) // whole for (used,) in lines)
        else:
            cents = sum((self._weighed(line) + half) // whole for line in lines)
        return Decimal(cents).scaleb(-2)

    def _weighed(self, line: Sequence[int]) -> int:
        return sum(map(operator.mul, line, self._factors))


def in_hours(microseconds: int) -> str:
    """A length of use, exactly, as hours:minutes:seconds such as 719:59:59.999999."""
    hours, minutes, seconds, rest = _clock(microseconds)
    return f"{hours}:{minutes:02d}:{seconds:02d}.{rest:06d}"


def in_iso8601(microseconds: int) -> str:
    """A length of use, exactly, as ISO 8601 writes a duration, such as PT719H59M59.999999S.

    In hours, however many: a day of a calendar has another length now and then.
    """
    hours, minutes, seconds, rest = _clock(microseconds)
    return f"PT{hours}H{minutes}M{seconds}.{rest:06d}S"


def _clock(microseconds: int) -> tuple[int, int, int, int]:
    seconds, rest = divmod(microseconds, MICROSECONDS_PER_SECOND)
    minutes, seconds = divmod(seconds, SECONDS_PER_MINUTE)
    hours, minutes = divmod(minutes, MINUTES_PER_HOUR)
    return hours, minutes, seconds, rest
