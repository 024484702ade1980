"""How many bitcoin an amount of money buys: the one rounding of an order, upwards to a satoshi."""

from __future__ import annotations

from decimal import ROUND_CEILING, Context, Decimal

BTC_DECIMALS = 8
SATOSHI = Decimal("0.00000001")

# Wide enough for every quotient of an amount and a rate, to the satoshi and far beyond.
EXACT_UP = Context(prec=60, rounding=ROUND_CEILING)


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
