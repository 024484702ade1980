"""What an hour of an agent's use costs: each region has prices, and each holds from a day on."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from uuid import UUID

from codebase.model.accounts.account import Region
from codebase.model.accounts.usage import FIRST_PRICES, Month, Part
from codebase.model.aggregate import Aggregate
from codebase.model.money import PLAIN_DECIMAL
from codebase.model.refusals import Conflict

PRICE_LIST_ID = UUID("2f0c6d5a-51b5-5d6e-9a43-6d1f1f2a7c08")
"""The one stream that all prices are in, so that they have one order."""

PRICE_DECIMALS = 4
SMALLEST = Decimal("0.0001")
PRICE_LIMIT = Decimal(1_000_000)
DAY = re.compile(r"2[0-9]{3}-[0-9]{2}-[0-9]{2}", re.ASCII)


# Events: names and fields are the storage format. Add fields with defaults, never rename.
@dataclass(frozen=True, kw_only=True, slots=True)
class PriceSet:
    """An hour of use in the region costs `per_hour`, in its currency, from that day on (UTC).

    It holds until the next day that has a price; of two for one day the later event counts.
    """

    region: Region
    from_day: date
    per_hour: Decimal


@dataclass(frozen=True, kw_only=True, slots=True)
class SetPrice:
    """Set a region's price from a day on; `today` is the day in UTC when this is sent."""

    region: Region
    from_day: date
    per_hour: Decimal
    today: date


@dataclass(frozen=True, slots=True)
class PriceList:
    """What was set last, for each region and day."""

    prices: Mapping[tuple[Region, date], Decimal]


class TooEarly(Conflict):
    """The day has begun: what was used on it is charged already, or is about to be."""

    problem = "price-too-early"


@dataclass(frozen=True, kw_only=True, slots=True)
class Held:
    """A price, and the moment from which it holds."""

    region: Region
    holds_from: datetime
    per_hour: Decimal


def parse_price(text: str) -> Decimal:
    """A price for an hour from the digits that a client sent.

    Args:
        text: plain ASCII digits with at most one point.

    Returns:
        The price, above 0, below 1,000,000, with exactly four decimals.

    Raises:
        ValueError: a sentence that says what is wrong; it never repeats the text.
    """
    if not PLAIN_DECIMAL.fullmatch(text):
        raise ValueError("must be a plain decimal number such as 1.1850")
    if len(text.partition(".")[2]) > PRICE_DECIMALS:
        raise ValueError(f"must have at most {PRICE_DECIMALS} decimals")
    price = Decimal(text)
    if not 0 < price < PRICE_LIMIT:
        raise ValueError(f"must be above 0 and below {PRICE_LIMIT}")
    return price.quantize(SMALLEST)


def parse_day(text: str) -> date:
    """A day of the calendar, such as 2026-12-01.

    Raises:
        ValueError: a sentence that says what is wrong; it never repeats the text.
    """
    if DAY.fullmatch(text):
        try:
            return date.fromisoformat(text)
        except ValueError:
            pass
    raise ValueError("must be a day such as 2026-12-01, up to the year 2999")


def evolve(state: PriceList | None, event: PriceSet) -> PriceList:
    """The list after one more price."""
    before = {} if state is None else state.prices
    return PriceList({**before, (event.region, event.from_day): event.per_hour})


def decide(command: SetPrice, state: PriceList | None) -> list[PriceSet]:
    """A price holds from a day to come, so that nothing that was used costs something else.

    Around midnight it may be recorded when its day has begun, and holds from the beginning of that
    day all the same; a month that is over it leaves alone in any case, see `holds_from`.
    """
    key = (command.region, command.from_day)
    if state is not None and state.prices.get(key) == command.per_hour:
        return []
    if command.from_day <= command.today:
        raise TooEarly(
            "from_day must be after today, in UTC: what has been used keeps its price",
            today=command.today.isoformat(),
        )
    return [PriceSet(region=command.region, from_day=command.from_day, per_hour=command.per_hour)]


def holds_from(event: PriceSet, recorded_at: datetime) -> datetime:
    """When a price begins: at its day's first moment, and never before its event's own month.

    Whatever the log may hold, an event leaves the months before it as they were.
    """
    begin = datetime.combine(event.from_day, time(), UTC)
    return max(begin, Month.of(recorded_at).begin)


def parts_within(
    prices: Iterable[Held], region: Region, since: datetime, until: datetime
) -> list[Part]:
    """The time from `since` to `until`, by the prices that hold in it.

    Args:
        prices: in the order in which they were set.
        region: whose they are; before its first one the price of `FIRST_PRICES` holds.
        since: the first moment.
        until: the first moment after it.

    Returns:
        At least one part, in order; the first begins at `since`.
    """
    latest = {each.holds_from: each.per_hour for each in prices if each.region == region}
    begins = sorted(latest)
    before = [begin for begin in begins if begin <= since]
    first = latest[before[-1]] if before else FIRST_PRICES[region].per_hour
    within = [Part(begin, latest[begin]) for begin in begins if since < begin < until]
    return [Part(since, first), *within]


def topic(event: PriceSet) -> str:
    """The routing key of an event."""
    return f"price_list.set.{event.region}"


PRICE_LIST: Aggregate[SetPrice, PriceSet, PriceList] = Aggregate(
    category="price_list",
    events=(PriceSet,),
    decide=decide,
    evolve=evolve,
    topic=topic,
)
