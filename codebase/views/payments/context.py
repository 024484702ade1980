"""Card transactions, put together for the rest of the system."""

from __future__ import annotations

from codebase.engine.context import AddressOf, Context
from codebase.model.payments.alert import ALERT
from codebase.model.payments.silence import SILENCE
from codebase.model.payments.transaction import TRANSACTION
from codebase.views.payments.alerts import ALERT_ROWS
from codebase.views.payments.settings import PaymentSettings
from codebase.views.payments.silences import SILENCE_ROWS
from codebase.views.payments.transactions import TRANSACTIONS, TRANSITIONS


def welcome(address_of: AddressOf, *, with_tokens: bool) -> str:  # noqa: ARG001 - as others
    """Where payments are made and listed."""
    return (
        f"card transactions: {address_of('transact')}/docs, alerts about fraud:"
        f" {address_of('alertman')}/"
    )


PAYMENT_CONTEXT = Context(
    name="payments",
    aggregates=(TRANSACTION, ALERT, SILENCE),
    projections=(TRANSACTIONS, TRANSITIONS, ALERT_ROWS, SILENCE_ROWS),
    settings=PaymentSettings,
    addresses={"PAYMENT_PROVIDER_URL": "payment_provider"},
    welcome=welcome,
    # It shows the fraud police the transactions of every client.
    administrators=("transact",),
)
