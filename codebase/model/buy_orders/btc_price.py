"""Which of several quoted bitcoin prices is believed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from codebase.model.buy_orders.bitcoin import BTC_DECIMALS
from codebase.model.money import PLAIN_DECIMAL, Currency

RATE_LIMIT = Decimal(1_000_000_000_000)

# The demo price goes up and down a triangle, one step every 15 seconds, the same on every machine.
DEMO_STEP_SECONDS = 15
DEMO_STEPS = 400
DEMO_STEP = Decimal("1.25")
DEMO_BASE = {
    Currency.EUR: Decimal("44103.17"),
    Currency.GBP: Decimal("38220.45"),
    Currency.USD: Decimal("48478.88"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Quote:
    """What `source` said one bitcoin costs in `currency`, at `quoted_at` (UTC)."""

    currency: Currency
    rate: Decimal
    source: str
    quoted_at: datetime


def parse_rate(text: object) -> Decimal:
    """The rate that a source answered with.

    Raises:
        ValueError: not the plain digits of a number above 0, with at most 8 decimals.
    """
    if not isinstance(text, str) or not PLAIN_DECIMAL.fullmatch(text):
        raise ValueError("a rate must be plain decimal digits")
    rate = Decimal(text)
    if not 0 < rate < RATE_LIMIT or len(text.partition(".")[2].rstrip("0")) > BTC_DECIMALS:
        raise ValueError("a rate must be above 0, below a trillion, with at most 8 decimals")
    return rate


def choose(last: Quote | None, quotes: Sequence[Quote], max_jump: Decimal) -> Quote | None:
    """The first quote that is close to the last price, or that a second source agrees with.

    Args:
        last: the price believed so far; None when there is none that still counts.
        quotes: one per source that answered, in the order in which sources are preferred.
        max_jump: how far apart two rates may be, relative to the one compared with.
    """
    for quote in quotes:
        others = [other for other in quotes if other.source != quote.source]
        if last is None or _close(quote, last, max_jump):
            return quote
        if any(_close(quote, other, max_jump) for other in others):
            return quote
    return None


def _close(quote: Quote, reference: Quote, max_jump: Decimal) -> bool:
    return abs(quote.rate - reference.rate) <= max_jump * reference.rate


def demo_quote(currency: Currency, now: datetime) -> Quote:
    """A made-up price for machines without internet; it says so by its source."""
    step = int(now.astimezone(UTC).timestamp()) // DEMO_STEP_SECONDS % DEMO_STEPS
    rate = DEMO_BASE[currency] + DEMO_STEP * min(step, DEMO_STEPS - step)
    return Quote(currency=currency, rate=rate, source="demo", quoted_at=now)
