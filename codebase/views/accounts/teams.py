"""The teams that follow accounts and agents: their pages lead to each other."""

from __future__ import annotations

TEAMS = (("Billing", 8070), ("Compliance", 8060), ("VIP customers", 8073))
"""Title -> port in the embedded run; elsewhere nobody knows where they are."""
