"""What a field of a payment may be: a card, as clients or our own services tell it, and others."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Literal, Self

from fastapi import Request
from pydantic import BeforeValidator, Field, StringConstraints, WithJsonSchema

from codebase.foundation.errors import invalid
from codebase.model.payments.cards import (
    BRAND_NAMES,
    Card,
    CardNumber,
    digits_in,
    holds_card_number,
)
from codebase.model.payments.currencies import parse_currency
from codebase.web.fields import PLAIN_TEXT, Text, read_text
from codebase.web.request_body import RequestBody

CardNumberField = Annotated[
    CardNumber,
    BeforeValidator(CardNumber.read),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": "^[0-9]{12,19}$",
            "description": "The number of a payment card, which is never repeated. A whole number "
            "is taken too; JavaScript's end at 16 digits.",
        }
    ),
]
"""A card's number in a body."""


def without_card(value: object) -> object:
    """Anything but a text that may have a card's number in it.

    Raises:
        ValueError: it may; the text never repeats it.
    """
    if isinstance(value, str) and holds_card_number(value):
        raise ValueError("must not hold what may be the number of a card: 12 digits in a row")
    return value


NoCard = BeforeValidator(without_card)
PlainText = Annotated[
    Text,
    NoCard,
    Field(description="A line of text, without what may be a card's number: 12 digits in a row."),
]
"""A line of text that is kept, and so must not hold a card's number."""


def key_without_card(request: Request) -> None:
    """Of a command by people: a key of their own that has no card's number in it.

    Raises:
        InvalidInputError: naming the header.
    """
    if holds_card_number(request.headers.get("idempotency-key", "")):
        raise invalid("Idempotency-Key", "must not hold 12 digits in a row, unless it is a UUID")


def refuse_elsewhere(number: CardNumber, texts: Mapping[str, str | None]) -> None:
    """Keep a card's number out of whatever else of its request is written down.

    That may be what a client calls its things, of which many are long numbers.

    Args:
        number: of the card.
        texts: field -> what is in it.

    Raises:
        InvalidInputError: naming the field.
    """
    for field, text in texts.items():
        if text is not None and number.digits in digits_in(text):
            raise invalid(field, "must not hold the number of the card")


FINGERPRINT = re.compile(r"[A-Za-z0-9_.-]{1,32}:[A-Za-z0-9_-]{22,43}", re.ASCII)
Fingerprint = Annotated[
    str,
    StringConstraints(pattern=f"^{FINGERPRINT.pattern}$"),
    Field(examples=["c1:VrhXvBtaVxQ8k0aZ4Yd3Gw"]),
]


class ReducedCard(RequestBody):
    """A card whose number was left at the edge, as our own services tell each other of it."""

    brand: Literal[BRAND_NAMES]  # type: ignore[valid-type] # a tuple of texts, as Literal takes it
    last_four: Annotated[str, StringConstraints(pattern="^[0-9]{4}$"), Field(examples=["4321"])]
    luhn: bool
    fingerprints: Annotated[list[Fingerprint], Field(min_length=1, max_length=8)]

    @classmethod
    def of(cls, card: Card) -> Self:
        """To be sent."""
        return cls(
            brand=card.brand,
            last_four=card.last_four,
            luhn=card.luhn,
            fingerprints=list(card.fingerprints),
        )

    def card(self) -> Card:
        """As the model knows it."""
        return Card(
            brand=self.brand,
            last_four=self.last_four,
            luhn=self.luhn,
            fingerprints=tuple(self.fingerprints),
        )


# By its own name it would be what generated clients call what /healthz answers.
ShownStatus = Literal[
    "PENDING",
    "CLEARED",
    "FRAUDULENT",
    "ALERTED",
    "PAYMENT_INITIATED",
    "PAYMENT_COMPLETE",
    "PAYMENT_FAILED",
]
"""How far a transaction is: the values of the model's `Status`."""


def read_moment(value: object) -> datetime:
    """A moment from JSON, in UTC.

    Raises:
        ValueError: a sentence that says what is wrong; it never repeats the value.
    """
    try:
        found = datetime.fromisoformat(value) if isinstance(value, str) else None
        if found is not None and found.tzinfo is not None:
            return found.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise ValueError("must be a time in ISO 8601 with its offset, such as 2026-12-01T17:00:00Z")


Moment = Annotated[
    datetime,
    BeforeValidator(read_moment),
    WithJsonSchema(
        {
            "type": "string",
            "format": "date-time",
            "description": "With an offset from UTC.",
            "examples": ["2099-12-01T17:00:00Z"],
        }
    ),
]
"""A moment in a body, in UTC."""

ORDER_ID_MAX = 64


def read_currency(value: object) -> str:
    """A currency from JSON.

    Raises:
        ValueError: a sentence that says what is wrong; it never repeats the value.
    """
    if not isinstance(value, str):
        raise ValueError("must be a text")  # noqa: TRY004 - pydantic wants this one
    return parse_currency(value)


CurrencyCode = Annotated[
    str,
    BeforeValidator(read_currency),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": "^[A-Z]{3}$",
            "description": "A currency's code in ISO 4217.",
            "examples": ["INR"],
        }
    ),
]
"""A currency's code in ISO 4217."""


def read_order_id(value: object) -> str:
    """An order's id from JSON: a whole number, or a text; it is kept as a text.

    Raises:
        ValueError: a sentence that says what is wrong; it never repeats the value.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not 1 <= len(value) <= ORDER_ID_MAX:
        raise ValueError(f"must be a whole number, or a text of 1 to {ORDER_ID_MAX} characters")
    return read_text(value)


OrderId = Annotated[
    str,
    BeforeValidator(read_order_id),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 0, "maximum": 2**53 - 1},
                {
                    "type": "string",
                    "minLength": 1,
                    "maxLength": ORDER_ID_MAX,
                    "pattern": PLAIN_TEXT,
                },
            ],
            "examples": ["1234"],
        }
    ),
]
"""What a shop calls an order."""
