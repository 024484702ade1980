"""Money is exact, from the digits a client sends to the satoshi that is stored."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codebase.model.money import SATOSHI, btc_for, in_btc, parse_amount

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


@given(amount=amounts)
def test_every_valid_amount_is_read_exactly(amount: Decimal) -> None:
    assert parse_amount(format(amount, "f")) == amount


@pytest.mark.parametrize("text", ["1", "0.5", "123.45", "999999999.99", "0.01", "1.0"])
def test_plain_amounts_are_taken_with_two_decimals(text: str) -> None:
    amount = parse_amount(text)
    assert amount == Decimal(text)
    assert amount.as_tuple().exponent == -2


@pytest.mark.parametrize(
    "text",
    [
        "", "0", "0.00", "-1", "-0", "+1", "0.001", "1.000", "1000000000", "1e3", "1E3", "NaN",
        "Infinity", "-Infinity", "sNaN", " 1", "1 ", "1_000", "1,5", "0x10", "１２", "٣", "1.",
        ".5", "01", "1\n", "1\x00", "9" * 400,
    ],
)  # fmt: skip
def test_everything_else_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(ValueError, match="must ") as refused:
        parse_amount(text)
    assert str(refused.value) in {
        "must be a plain decimal number such as 123.45",
        "must have at most 2 decimals",
        "must be above 0 and below 1000000000",
    }
