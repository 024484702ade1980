"""Money is exact, from the digits that a client sends."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codebase.model.money import Currency, parse_amount, sums_by_currency

amounts = st.decimals(min_value="0.01", max_value="999999999.99", places=2)


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


def test_amounts_of_two_currencies_are_never_added() -> None:
    amounts = [
        (Currency.USD, Decimal("0.10")),
        (Currency.EUR, Decimal("0.20")),
        (Currency.USD, Decimal("0.20")),
    ]
    assert list(sums_by_currency(amounts).items()) == [
        (Currency.EUR, Decimal("0.20")),
        (Currency.USD, Decimal("0.30")),
    ]
