"""What the fraud police and payment providers say, as commands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from decimal import Decimal, InvalidOperation
from typing import Any

from codebase.engine.reactions.reaction import Answer
from codebase.model.payments.transaction import Reason, RecordDecision, RecordPayment

REASONS_MAX = 50
TEXT_MAX = 500
REFUSAL = "/problems/payment-refused"
"""The type of the problem by which a provider says that it does not take the money."""

NAMES = tuple(field.name for field in fields(Reason))


class NoWordError(Exception):
    """It was answered, and nobody knows what that means; the text repeats nothing of it."""


def decision_of(said: Mapping[str, Any], *, initiates: bool) -> RecordDecision:
    """The decision of the fraud police.

    Args:
        said: its answer.
        initiates: whether what it has nothing against is initiated as well.

    Raises:
        NoWordError: it is none.
    """
    message = said.get("message")
    if not isinstance(message, Mapping) or not isinstance(message.get("isFraud"), bool):
        raise NoWordError("the fraud police answered, and not whether it is fraud")
    return RecordDecision(
        is_fraud=message["isFraud"],
        score=_text(message.get("score")),
        reasons=tuple(_reasons(message.get("reasons"))),
        initiates=initiates,
    )


def _reasons(said: object) -> Sequence[Reason]:
    listed = said if isinstance(said, list) else []
    return [
        Reason(**{name: _text(each.get(name)) for name in NAMES})
        for each in listed[:REASONS_MAX]
        if isinstance(each, Mapping)
    ]


def _text(value: object) -> str:
    """A text that Postgres keeps, and not a longer one than anybody reads."""
    text = "" if value is None else str(value)[:TEXT_MAX]
    return text.replace("\0", "?").encode("utf-8", "replace").decode()


def payment_of(answer: Answer, asked: Mapping[str, Any]) -> RecordPayment:
    """What a provider's answer means for the payment.

    Args:
        answer: to a charge, or to the question what became of it.
        asked: the `payment` that it was asked for.

    Raises:
        NoWordError: it refuses something else, speaks of other money than it was asked for, or of
            another number of charges than one.
    """
    if answer.refused is None:
        if not _is_same_money(answer.data, asked):
            raise NoWordError("the provider says that it moved another amount or currency")
        if answer.data.get("charges", 1) != 1:
            raise NoWordError("the provider says that it moved the money, and not once")
        return RecordPayment(is_paid=True)
    if answer.data.get("type") == REFUSAL:
        return RecordPayment(is_paid=False, reason=_text(answer.data.get("detail")))
    raise NoWordError(f"the provider refused the request: {answer.refused}")


def _is_same_money(told: Mapping[str, Any], asked: Mapping[str, Any]) -> bool:
    """Whether a provider that tells how much it moved tells what it was asked to move."""
    try:
        same_amount = Decimal(str(told.get("amount", asked["amount"]))) == Decimal(asked["amount"])
    except InvalidOperation:
        return False
    return same_amount and told.get("currency", asked["currency"]) == asked["currency"]
