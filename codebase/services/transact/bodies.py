"""What payments look like: what is sent, and what is answered."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel

from codebase.engine.commands.submission import Outcome
from codebase.model.payments.transaction import PaymentMethod, PaymentType, Status
from codebase.views.payments.fields import (
    CardNumberField,
    CurrencyCode,
    OrderId,
    PlainText,
    ShownStatus,
)
from codebase.web.commands import Answer
from codebase.web.fields import Amount, FromText
from codebase.web.problems import MEDIA_TYPE, HttpProblem, ProblemDetails
from codebase.web.request_body import RequestBody
from codebase.web.schemas import MayBeAbsent, example

EXAMPLE: dict[str, Any] = {
    "order": {"id": 1234, "name": "A lamp", "cost": "123.00", "currency": "INR"},
    "paymentMethod": "amazonpay",
    "payment": {
        "card": "1234567887654321",
        "type": "wallet",
        "amount": "123.00",
        "currency": "INR",
    },
}


class Order(RequestBody):
    """What is paid for."""

    model_config = example(**EXAMPLE["order"])

    id: OrderId
    name: PlainText
    cost: Amount
    currency: CurrencyCode


class Payment(RequestBody):
    """What is paid with, and how much."""

    model_config = example(**EXAMPLE["payment"])

    card: CardNumberField
    type: FromText[PaymentType]
    amount: Amount
    currency: CurrencyCode


class PostTransaction(RequestBody):
    """Pay for an order by card, once for each `Idempotency-Key`."""

    model_config = example(**EXAMPLE)

    order: Order
    paymentMethod: FromText[PaymentMethod]  # noqa: N815 - a contract
    payment: Payment


class TransactionAnswer(BaseModel):
    """How a transaction stands."""

    model_config = example(
        message="Transaction Successful",
        transactionID="6f1c2b1e-58f4-4f0e-9d2a-6b7d5a0c9e11",
        status="PAYMENT_COMPLETE",
    )

    message: str
    transactionID: UUID  # noqa: N815 - a contract
    status: Literal["PAYMENT_COMPLETE", "PAYMENT_FAILED", "PENDING"]


class PendingTransaction(TransactionAnswer):
    """It goes on without its client; the same request, or `Location`, tells how it has ended."""

    model_config = example(
        message="Transaction Pending",
        transactionID="6f1c2b1e-58f4-4f0e-9d2a-6b7d5a0c9e11",
        status="PENDING",
    )


class NotPaid(ProblemDetails):
    """It was not paid: taken for fraud (`/problems/fraudulent-transaction`, with `fraudStatus`),
    or the payment failed (`/problems/payment-failed`)."""  # noqa: D205, D209 - one sentence

    model_config = example(
        type="/problems/fraudulent-transaction",
        title="Fraudulent transaction",
        status=402,
        detail="the transaction was taken for fraud, and will not be paid",
        instance="5d3f0c6a9b1e4f7c8a2d6e9b0c4f1a73",
        transactionID="6f1c2b1e-58f4-4f0e-9d2a-6b7d5a0c9e11",
        transactionStatus="FRAUDULENT",
        fraudStatus=True,
    )

    transactionID: UUID  # noqa: N815 - a contract
    transactionStatus: ShownStatus  # noqa: N815 - as the others
    fraudStatus: MayBeAbsent[bool] = None  # noqa: N815 - a contract


class PostSettlement(RequestBody):
    """How a payment ended of which the provider says nothing, and how that is known."""

    model_config = example(outcome="PAYMENT_FAILED", reason="the bank's statement has no such sum")

    outcome: Literal["PAYMENT_COMPLETE", "PAYMENT_FAILED"]
    reason: PlainText


FRAUD = "the transaction was taken for fraud, and will not be paid"
FAILED = "the payment failed, and nothing was paid"


def answer_to(outcome: Outcome, request_id: str) -> Answer:
    """What the client is told of a transaction as it stands.

    Args:
        outcome: of whatever was done to it last.
        request_id: what a problem is known by.
    """
    headers = {"Location": f"/transactions/{outcome.stream_id}"}
    match outcome.state.status:
        case Status.PAYMENT_COMPLETE:
            answer = told("Transaction Successful", outcome.stream_id, "PAYMENT_COMPLETE")
            status = HTTPStatus.OK
        case Status.FRAUDULENT | Status.ALERTED:
            return problem("fraudulent-transaction", FRAUD, outcome, request_id, fraudStatus=True)
        case Status.PAYMENT_FAILED:
            return problem("payment-failed", FAILED, outcome, request_id)
        case _:
            answer = told("Transaction Pending", outcome.stream_id, "PENDING")
            status = HTTPStatus.ACCEPTED
    return Answer(answer, status, headers, outcome.positions, outcome.replayed)


def told(
    message: str,
    transaction_id: UUID,
    status: Literal["PAYMENT_COMPLETE", "PAYMENT_FAILED", "PENDING"],
) -> TransactionAnswer:
    """An answer that is no problem."""
    return TransactionAnswer(message=message, transactionID=transaction_id, status=status)


def problem(
    kind: str, detail: str, outcome: Outcome, request_id: str, **facts: str | bool
) -> Answer:
    """A business answer, and no error: it has the token of what was written."""
    body = HttpProblem(
        HTTPStatus.PAYMENT_REQUIRED,
        kind,
        detail,
        facts={
            "transactionID": str(outcome.stream_id),
            "transactionStatus": outcome.state.status.value,
            **facts,
        },
    ).body(request_id)
    headers = {"Location": f"/transactions/{outcome.stream_id}", "Content-Type": MEDIA_TYPE}
    return Answer(body, HTTPStatus.PAYMENT_REQUIRED, headers, outcome.positions, outcome.replayed)
