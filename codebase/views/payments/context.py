"""Card transactions, put together for the rest of the system."""

from __future__ import annotations

from codebase.engine.context import AddressOf, Context
from codebase.model.payments.transaction import TRANSACTION
from codebase.views.payments.settings import PaymentSettings
from codebase.views.payments.transactions import TRANSACTIONS, TRANSITIONS


def welcome(address_of: AddressOf, *, with_tokens: bool) -> str:  # noqa: ARG001 - as others
    """Where payments are made and listed."""
    return f"card transactions: {address_of('transact')}/docs"


PAYMENT_CONTEXT = Context(
    name="payments",
    aggregates=(TRANSACTION,),
    projections=(TRANSACTIONS, TRANSITIONS),
    settings=PaymentSettings,
    addresses={"PAYMENT_PROVIDER_URL": "payment_provider"},
    welcome=welcome,
    # It shows the fraud police the transactions of every client.
    administrators=("transact",),
)
