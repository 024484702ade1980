"""Money: exact decimals from the wire to the table."""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, Context, Decimal
from enum import StrEnum

CURRENCY_DECIMALS = 2
BTC_DECIMALS = 8
CENT = Decimal("0.01")
SATOSHI = Decimal("0.00000001")
AMOUNT_LIMIT = Decimal(1_000_000_000)

# Wide enough for every quotient of an amount and a rate, to the satoshi and far beyond.
EXACT_UP = Context(prec=60, rounding=ROUND_CEILING)
PLAIN_DECIMAL = re.compile(r"(?:0|[1-9][0-9]{0,20})(?:\.[0-9]{1,30})?", re.ASCII)


class Currency(StrEnum):
    """The currencies that buy orders are placed in."""

    EUR = "EUR"
    GBP = "GBP"
    USD = "USD"


def parse_amount(text: str) -> Decimal:
    """An amount of money from the digits a client sent.

    Args:
        text: plain ASCII digits with at most one point; no sign, exponent, blank or separator.

    Returns:
        The amount, above 0, below 1,000,000,000, with exactly two decimals.

    Raises:
        ValueError: a sentence that says what is wrong; it never repeats the text.
    """
    if not PLAIN_DECIMAL.fullmatch(text):
        raise ValueError("must be a plain decimal number such as 123.45")
    if len(text.partition(".")[2]) > CURRENCY_DECIMALS:
        raise ValueError("must have at most 2 decimals")
    amount = Decimal(text)
    if not 0 < amount < AMOUNT_LIMIT:
        raise ValueError("must be above 0 and below 1000000000")
    return amount.quantize(CENT)


def btc_for(amount: Decimal, rate: Decimal) -> Decimal:
    """How many bitcoin `amount` buys at `rate`, rounded up to a satoshi.

    The quotient is rounded up at 60 digits and then up at 8 decimals. Every satoshi lies on the
    finer grid, so this is the exact quotient rounded up once: 600000 at 48478.88 is 12.37652356.

    Args:
        amount: in the order's currency, finite and above 0.
        rate: price of one bitcoin in the same currency, finite and above 0.
    """
    return EXACT_UP.divide(amount, rate).quantize(SATOSHI, context=EXACT_UP)


def in_btc(value: Decimal) -> str:
    """`value` with all eight decimals, as clients see bitcoin amounts and rates."""
    return format(value.quantize(SATOSHI, context=EXACT_UP), "f")
