"""The pages about card transactions: they lead to each other."""

from __future__ import annotations

PAYMENT_PAGES = (("Transactions", 9001), ("Fraud police", 8090), ("Alerts", 8083))
"""Title -> port in the embedded run; elsewhere nobody knows where they are."""
