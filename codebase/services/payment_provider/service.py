"""Stands for a payment provider: `POST /charges`, `GET /charges/{transactionID}`.

What it does can be chosen by the amount: 402.00 is refused, 408.00 hangs, 500.00 fails, and 409.00
is charged, and the answer lost. Whatever else is asked for is charged, once for each transaction.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from http import HTTPStatus
from typing import Annotated, Literal
from uuid import UUID

from fastapi import Body, FastAPI, Request
from pydantic import BaseModel

from codebase.model.refusals import NotFound
from codebase.services.payment_provider.ledger import Charge, Ledger
from codebase.views.payments.fields import CurrencyCode
from codebase.web.fields import Amount, FromText
from codebase.web.problems import HttpProblem
from codebase.web.request_body import RequestBody
from codebase.web.runtime import Runtime
from codebase.web.schemas import example
from codebase.web.shell import service_app

PORT = 9002
NEEDS: tuple[str, ...] = ()

REFUSED, HANGS, FAILS, LOST = map(Decimal, ("402.00", "408.00", "500.00", "409.00"))
LEDGER = "outside/payment_provider.sqlite3"


class PostCharge(RequestBody):
    """Move money."""

    model_config = example(
        transactionID="6f1c2b1e-58f4-4f0e-9d2a-6b7d5a0c9e11",
        channel="amazonpay",
        type="wallet",
        amount="123.00",
        currency="INR",
    )

    transactionID: FromText[UUID]  # noqa: N815 - a contract
    channel: Literal["paytm", "icici", "amazonpay", "card"]
    type: Literal["wallet", "credit", "debit", "netbanking"]
    amount: Amount
    currency: CurrencyCode


class ChargeAnswer(BaseModel):
    """Money that has moved, and how often."""

    model_config = example(
        transactionID="6f1c2b1e-58f4-4f0e-9d2a-6b7d5a0c9e11",
        amount="123.00",
        currency="INR",
        charges=1,
    )

    transactionID: UUID  # noqa: N815 - a contract
    amount: Decimal
    currency: str
    charges: int

    @classmethod
    def of(cls, transaction_id: UUID, charge: Charge) -> ChargeAnswer:
        """One charge."""
        return cls(
            transactionID=transaction_id, amount=charge.amount, currency=charge.currency, charges=1
        )


def create_app(ledger: Ledger) -> FastAPI:
    """The service, given what it has charged."""
    app = service_app("payment_provider", checks={})

    @app.post(
        "/charges",
        responses={
            402: {"description": "The amount is 402.00."},
            500: {"description": "The amount is 500.00."},
        },
    )
    async def post_charge(request: Request, charge: Annotated[PostCharge, Body()]) -> ChargeAnswer:
        """Charge once for each transaction, unless the amount says otherwise."""
        if charge.amount == REFUSED:
            raise HttpProblem(
                HTTPStatus.PAYMENT_REQUIRED, "payment-refused", "the account has not that much"
            )
        if charge.amount == FAILS:
            raise HttpProblem(
                HTTPStatus.INTERNAL_SERVER_ERROR, "payment-error", "this amount always fails"
            )
        if charge.amount == HANGS:
            await hang(request)
        charged = ledger.charge(
            charge.transactionID, charge.amount, charge.currency, charge.channel
        )
        if charge.amount == LOST:
            await hang(request)
        return ChargeAnswer.of(charge.transactionID, charged)

    @app.get("/charges/{transaction_id}")
    async def get_charge(transaction_id: UUID) -> ChargeAnswer:
        """What was charged for a transaction."""
        found = ledger.find(transaction_id)
        if found is None:
            raise NotFound("nothing was charged for this transaction")
        return ChargeAnswer.of(transaction_id, found)

    return app


async def hang(request: Request) -> None:
    """Say nothing until the client has gone.

    Raises:
        HttpProblem: 503, which nobody hears.
    """
    while (await request.receive())["type"] != "http.disconnect":
        pass
    raise HttpProblem(HTTPStatus.SERVICE_UNAVAILABLE, "gone", "the client has gone")


@asynccontextmanager
async def open_service(runtime: Runtime) -> AsyncIterator[FastAPI]:
    """The service with its file."""
    with Ledger.open(runtime.settings.orderly_home / LEDGER) as ledger:
        yield create_app(ledger)
