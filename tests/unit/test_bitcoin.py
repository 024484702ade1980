"""An order's bitcoin amount is exact to the satoshi that is stored, and rounded up once."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codebase.model.buy_orders.bitcoin import SATOSHI, btc_for, in_btc

amounts = st.decimals(min_value="0.01", max_value="999999999.99", places=2)
rates = st.decimals(min_value="0.00000001", max_value="99999999999", places=8)


@given(amount=amounts, rate=rates)
def test_bitcoin_amounts_are_the_exact_quotient_rounded_up_to_a_satoshi(
    amount: Decimal, rate: Decimal
) -> None:
    btc = btc_for(amount, rate)
    exact = Fraction(amount) / Fraction(rate)
    assert btc == btc.quantize(SATOSHI)
    assert Fraction(btc) - Fraction(SATOSHI) < exact <= Fraction(btc)


@pytest.mark.parametrize(
    ("amount", "rate", "btc"),
    [
        ("600000", "48478.88", "12.37652356"),
        ("0.01", "49500", "0.00000021"),
        ("123.45", "48478.88", "0.00254647"),
        ("1", "1", "1.00000000"),
        ("0.01", "1000000", "0.00000001"),
        ("999999999.99", "0.00000001", "99999999999000000.00000000"),
    ],
)
def test_known_amounts(amount: str, rate: str, btc: str) -> None:
    assert in_btc(btc_for(Decimal(amount), Decimal(rate))) == btc
