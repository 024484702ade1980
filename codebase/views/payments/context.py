"""Card transactions, put together for the rest of the system."""

from __future__ import annotations

from codebase.engine.context import AddressOf, Context
from codebase.model.payments.alert import ALERT
from codebase.model.payments.card_check import CARD_CHECK
from codebase.model.payments.fraud_label import FRAUD_LABEL
from codebase.model.payments.fraud_listing import FRAUD_LISTING
from codebase.model.payments.fraud_rule_history import FRAUD_RULES
from codebase.model.payments.silence import SILENCE
from codebase.model.payments.transaction import TRANSACTION
from codebase.views.payments.alerts import ALERT_ROWS
from codebase.views.payments.settings import PaymentSettings
from codebase.views.payments.silences import SILENCE_ROWS
from codebase.views.payments.transactions import TRANSACTIONS, TRANSITIONS


def welcome(address_of: AddressOf, *, with_tokens: bool) -> str:  # noqa: ARG001 - as others
    """Where payments are made and listed, where they are judged, and who is told of fraud."""
    return (
        f"card transactions: {address_of('transact')}/;"
        f" fraud police: {address_of('fraud_police')}/; alerts: {address_of('alertman')}/"
    )


PAYMENT_CONTEXT = Context(
    name="payments",
    aggregates=(TRANSACTION, CARD_CHECK, FRAUD_LISTING, FRAUD_LABEL, FRAUD_RULES, ALERT, SILENCE),
    projections=(TRANSACTIONS, TRANSITIONS, ALERT_ROWS, SILENCE_ROWS),
    settings=PaymentSettings,
    addresses={
        "PAYMENT_PROVIDER_URL": "payment_provider",
        "FRAUD_POLICE_URL": "fraud_police",
    },
    welcome=welcome,
    # It shows the fraud police the transactions of every client.
    administrators=("transact",),
)
