"""What the fraud police remembers: payments that were judged, lists, labels, rule sets."""

from __future__ import annotations

from codebase.engine.projections.projection import Projector
from codebase.services.fraud_police.shadow import check_shadow
from codebase.views.payments.fraud_history import FRAUD_DECISIONS, FRAUD_PAYMENTS
from codebase.views.payments.fraud_records import (
    FRAUD_LABELS,
    FRAUD_LISTINGS,
    FRAUD_RULE_SETS,
)

FRAUD_POLICE = Projector(
    name="fraud_police",
    projections=(FRAUD_PAYMENTS, FRAUD_DECISIONS, FRAUD_LISTINGS, FRAUD_LABELS, FRAUD_RULE_SETS),
    check_kept=check_shadow,
)
