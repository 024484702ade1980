"""What the fraud police is sent: a transaction to judge."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from pydantic import BeforeValidator, Field, StringConstraints, WithJsonSchema

from codebase.model.payments.cards import Card, CardNumber, CardReducer
from codebase.model.payments.fraud_features import Payment
from codebase.views.payments.fields import ReducedCard
from codebase.web.fields import Amount, FromText, Text
from codebase.web.request_body import RequestBody
from codebase.web.schemas import MayBeAbsent, example

Code = Annotated[str, StringConstraints(pattern="^[A-Z]{3}$")]
"""A currency, by its code in ISO 4217."""
Word = Annotated[str, StringConstraints(pattern="^[a-z][a-z0-9_-]{0,63}$")]
"""The name of a method or of a kind of payment."""
ORDER_ID_MAX = 64


def read_card(value: object) -> object:
    """A card: what is left of it among our own services, or a number that is reduced here.

    Raises:
        ValueError: neither; the text never repeats it.
    """
    return value if isinstance(value, dict) else CardNumber.read(value)


def read_order_id(value: object) -> str:
    """An order's id, which is a whole number or a text.

    Raises:
        ValueError: neither.
    """
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError("must be a whole number or a text")  # noqa: TRY004 - pydantic wants this one
    text = str(value)
    if not 1 <= len(text) <= ORDER_ID_MAX or not text.isprintable():
        raise ValueError(f"must have 1 to {ORDER_ID_MAX} printable characters")
    return text


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

    id: Annotated[
        str,
        BeforeValidator(read_order_id),
        WithJsonSchema(
            {
                "anyOf": [
                    {"type": "integer"},
                    {"type": "string", "minLength": 1, "maxLength": ORDER_ID_MAX},
                ],
                "examples": [1234],
            }
        ),
    ]
    name: MayBeAbsent[Text] = None
    cost: Amount
    currency: Code


class PaymentBody(RequestBody):
    """How it is paid; nothing secret of a card, such as its CVV, is a known field."""

    model_config = example(card="1234567887654321", type="wallet", amount="123.00", currency="INR")

    card: CardField
    type: Word
    amount: Amount
    currency: Code


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
    user_id: Text = Field(alias="userID", description="Whose it is: a client's name.")
    payment_method: Word = Field(alias="paymentMethod")
    payment: PaymentBody
    order: Order

    def payment_of(self, reducer: CardReducer) -> Payment:
        """As the rules see it, its card reduced."""
        return Payment(
            client=self.user_id,
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
