"""What fraud rules look at: the payment itself, and what is counted of the payments before it.

The contract of windows and sums is in docs/fraud-features.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import NamedTuple

from codebase.model.money import NOTHING
from codebase.model.payments.cards import Card

HISTORY_MAX = 1_000
"""Payments that are looked at of a client, or of a card: the newest in the longest window. Counts
and sums beyond are `at least`, so that a busy client costs no more than that."""
STRICT_MAX = 256
"""Payments that a card's own stream remembers the times of."""
WINDOW_MAX_SECONDS = 90 * 86_400


@dataclass(frozen=True, kw_only=True, slots=True)
class Payment:
    """A payment that is to be judged; amounts are exact, with two decimals."""

    client: str
    method: str
    kind: str
    card: Card
    amount: Decimal
    currency: str
    cost: Decimal
    cost_currency: str


class Window(NamedTuple):
    """What came before a payment within so many seconds, the payment itself not counted.

    Sums are of payments in the same currency, as are the payments that `client_in_currency` counts.
    It is stored as an array, which takes a fifth of the room: a field is added at the end.
    """

    client_payments: int = 0
    client_in_currency: int = 0
    client_sum: Decimal = NOTHING
    client_cards: int = 0
    """Different cards, the payment's own one not counted."""
    card_payments: int = 0
    card_sum: Decimal = NOTHING
    card_clients: int = 0
    """Different clients, the payment's own one not counted."""
    card_same_amount: int = 0
    """Of the same amount in the same currency."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Features:
    """All that was known of the past when a payment was judged.

    Args:
        windows: seconds -> what came before within them, as the read model had it.
        strict: seconds -> payments of the card within them, as its own stream had it, at most
            `STRICT_MAX`.
        allowed: until when client or card are on the allow list, and what is on it; None: not.
        blocked: the same of the block list.
    """

    windows: Mapping[int, Window] = field(default_factory=dict)
    strict: Mapping[int, int] = field(default_factory=dict)
    allowed: str | None = None
    blocked: str | None = None


class LacksDataError(Exception):
    """A rule asks for something that was not looked up; the text says what."""


def window_of(features: Features, seconds: int) -> Window:
    """What came before within so many seconds.

    Raises:
        LacksDataError: it was not looked up.
    """
    window = features.windows.get(seconds)
    if window is None:
        raise LacksDataError(f"no window of {seconds} s was recorded")
    return window


def strict_count(features: Features, seconds: int) -> int:
    """Payments of the card within so many seconds, as its own stream has them.

    Raises:
        LacksDataError: they were not counted.
    """
    counted = features.strict.get(seconds)
    if counted is None:
        raise LacksDataError(f"no strict window of {seconds} s was recorded")
    return counted
