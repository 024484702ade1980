"""Cards in bodies: a number, as clients send it, or what is left of it, among our own services."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, StringConstraints, WithJsonSchema

from codebase.model.payments.cards import BRAND_NAMES, Card, CardNumber
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

FINGERPRINT = re.compile(r"[A-Za-z0-9_.-]{1,32}:[A-Za-z0-9_-]{22,43}", re.ASCII)
Fingerprint = Annotated[str, StringConstraints(pattern=f"^{FINGERPRINT.pattern}$")]


class ReducedCard(RequestBody):
    """A card whose number was left at the edge, as our own services tell each other of it."""

    brand: Literal[BRAND_NAMES]  # type: ignore[valid-type] # a tuple of texts, as Literal takes it
    last_four: Annotated[str, StringConstraints(pattern="^[0-9]{4}$")]
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
