"""Card transactions, put together for the rest of the system."""

from __future__ import annotations

from codebase.engine.context import Context
from codebase.views.payments.settings import PaymentSettings

PAYMENT_CONTEXT = Context(
    name="payments",
    aggregates=(),
    settings=PaymentSettings,
)
