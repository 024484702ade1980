"""Card transactions, put together for the rest of the system."""

from __future__ import annotations

from codebase.engine.context import Context
from codebase.model.payments.card_check import CARD_CHECK
from codebase.model.payments.fraud_label import FRAUD_LABEL
from codebase.model.payments.fraud_listing import FRAUD_LISTING
from codebase.model.payments.fraud_rule_history import FRAUD_RULES
from codebase.views.payments.settings import PaymentSettings

PAYMENT_CONTEXT = Context(
    name="payments",
    aggregates=(CARD_CHECK, FRAUD_LISTING, FRAUD_LABEL, FRAUD_RULES),
    settings=PaymentSettings,
)
