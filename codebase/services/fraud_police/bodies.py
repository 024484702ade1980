"""What the fraud police is sent: a transaction to judge."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import BeforeValidator, Field, StringConstraints, WithJsonSchema

from codebase.model.payments.cards import Card, CardNumber, CardReducer
from codebase.model.payments.fraud_features import Payment
from codebase.views.payments.fields import (
    CurrencyCode,
    NoCard,
    OrderId,
    PlainText,
    ReducedCard,
    read_moment,
)
from codebase.web.fields import Amount, FromText, Text
from codebase.web.request_body import RequestBody
from codebase.web.schemas import MayBeAbsent, example

Word = Annotated[str, StringConstraints(pattern="^[a-z][a-z0-9_-]{0,63}$"), NoCard]
"""The name of a method or of a kind of payment."""


def read_card(value: object) -> object:
    """A card: what is left of it among our own services, or a number that is reduced here.

    Raises:
        ValueError: neither; the text never repeats it.
    """
    return value if isinstance(value, dict) else CardNumber.read(value)


CARD_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"type": "string", "pattern": "^[0-9]{12,19}$"},
        {"type": "integer", "minimum": 100_000_000_000, "maximum": 9_999_999_999_999_999_999},
        {
            "type": "object",
            "properties": {
                "brand": {"type": "string"},
                "last_four": {"type": "string", "pattern": "^[0-9]{4}$"},
                "luhn": {"type": "boolean"},
                "fingerprints": {"type": "array", "items": {"type": "string"}},
            },
            "required": ["brand", "last_four", "luhn", "fingerprints"],
        },
    ],
    "description": "A number, reduced at once and never repeated; or what another of our services "
    "has made of one.",
    "examples": ["1234567887654321"],
}
CardField = Annotated[
    CardNumber | ReducedCard, BeforeValidator(read_card), WithJsonSchema(CARD_SCHEMA)
]
"""A card, whole or reduced."""


class Order(RequestBody):
    """What is paid for; `cost` is what it costs."""

    model_config = example(id=1234, name="Blue shoes", cost="123.00", currency="INR")

    id: OrderId
    name: Annotated[MayBeAbsent[Text], NoCard] = None
    cost: Amount
    currency: CurrencyCode


class PaymentBody(RequestBody):
    """How it is paid; nothing secret of a card, such as its CVV, is a known field."""

    model_config = example(card="1234567887654321", type="wallet", amount="123.00", currency="INR")

    card: CardField
    type: Word
    amount: Amount
    currency: CurrencyCode


class PostTransaction(RequestBody):
    """A transaction to judge, before it is paid."""

    model_config = example(
        transactionID="0b3a1f0e-7a5e-4c53-8f0e-3a8f8f3f2c11",
        userID="local",
        paymentMethod="amazonpay",
        payment=PaymentBody.model_config["json_schema_extra"]["examples"][0],  # type: ignore[index]
        order=Order.model_config["json_schema_extra"]["examples"][0],  # type: ignore[index]
    )

    transaction_id: FromText[UUID] = Field(alias="transactionID")
    user_id: PlainText = Field(alias="userID", description="Whose it is: a client's name.")
    payment_method: Word = Field(alias="paymentMethod")
    payment: PaymentBody
    order: Order
    requested_at: Annotated[MayBeAbsent[datetime], BeforeValidator(read_moment)] = Field(
        None,
        description="When it was requested, for administrators who show it later: it is judged as "
        "of then. Without it, and in the future, that is now.",
    )

    def payment_of(self, client: str, reducer: CardReducer) -> Payment:
        """As the rules see it, its card reduced; `client` is whose it is."""
        return Payment(
            client=client,
            method=self.payment_method,
            kind=self.payment.type,
            card=reduced(self.payment.card, reducer),
            amount=self.payment.amount,
            currency=self.payment.currency,
            cost=self.order.cost,
            cost_currency=self.order.currency,
        )


def reduced(card: CardNumber | ReducedCard, reducer: CardReducer) -> Card:
    """What is kept of a card, whichever way it came."""
    return card.card() if isinstance(card, ReducedCard) else reducer.reduce(card)
