"""What the fields of a price may be."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Annotated

from pydantic import BeforeValidator, WithJsonSchema

from codebase.model.accounts.price_list import parse_day, parse_price
from codebase.web.fields import digits_of


def read_price(value: object) -> Decimal:
    """A price for an hour from JSON.

    Raises:
        ValueError: a sentence that says what is wrong; it never repeats the value.
    """
    return parse_price(digits_of(value))


def read_day(value: object) -> date:
    """A day from JSON.

    Raises:
        ValueError: a sentence that says what is wrong; it never repeats the value.
    """
    if not isinstance(value, str):
        raise ValueError("must be a text such as '2030-01-01'")  # noqa: TRY004 - as pydantic wants
    return parse_day(value)


PricePerHour = Annotated[
    Decimal,
    BeforeValidator(read_price),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": r"^(0|[1-9][0-9]{0,5})(\.[0-9]{1,4})?$",
            "description": "Above 0, below 1000000, at most 4 decimals, in the region's currency. "
            "A JSON number is taken too, if it has no exponent.",
            "examples": ["1.2500"],
        }
    ),
]
"""A price for an hour, above 0, below 1,000,000, with at most four decimals."""

Day = Annotated[
    date,
    BeforeValidator(read_day),
    WithJsonSchema(
        {
            "type": "string",
            "format": "date",
            "description": "After today; days begin at midnight in UTC.",
            "examples": ["2030-01-01"],
        }
    ),
]
"""A day of the calendar, up to the year 2999."""
