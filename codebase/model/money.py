"""Money: exact decimals from the wire to the table.

Nothing is rounded here: when and how is a rule of whoever reckons, such as
`buy_orders/bitcoin.py` and `accounts/usage.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Decimal
from enum import StrEnum

CURRENCY_DECIMALS = 2
CENT = Decimal("0.01")
NOTHING = Decimal("0.00")
AMOUNT_LIMIT = Decimal(1_000_000_000)

PLAIN_DECIMAL = re.compile(r"(?:0|[1-9][0-9]{0,20})(?:\.[0-9]{1,30})?", re.ASCII)


class AmountTooLargeError(ValueError):
    """More money than an amount may be; the text says how much that is."""


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
        AmountTooLargeError: it is the limit or more.
        ValueError: a sentence that says what is wrong; it never repeats the text.
    """
    if not PLAIN_DECIMAL.fullmatch(text):
        raise ValueError("must be a plain decimal number such as 123.45")
    if len(text.partition(".")[2]) > CURRENCY_DECIMALS:
        raise ValueError("must have at most 2 decimals")
    amount = Decimal(text)
    if amount >= AMOUNT_LIMIT:
        raise AmountTooLargeError("must be above 0 and below 1000000000")
    if not amount:
        raise ValueError("must be above 0 and below 1000000000")
    return amount.quantize(CENT)


def sums_by_currency(amounts: Iterable[tuple[Currency, Decimal]]) -> dict[Currency, Decimal]:
    """The sum in each currency, in their order; amounts of two currencies are never added."""
    sums: dict[Currency, Decimal] = {}
    for currency, amount in amounts:
        sums[currency] = sums.get(currency, NOTHING) + amount
    return dict(sorted(sums.items()))
