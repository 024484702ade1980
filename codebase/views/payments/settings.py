"""What can be configured about transactions, and the keys that their cards are reduced with."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from codebase.foundation.errors import ConfigurationError
from codebase.foundation.keys import keys_of
from codebase.foundation.settings import Settings
from codebase.model.payments.cards import CardReducer


class PaymentSettings(Settings):
    """The environment of a service of this context; durations in seconds."""

    fraud_police_url: str = "http://127.0.0.1:8090"
    """Whom transactions are shown to before they are paid."""
    fraud_rules: Path | None = None
    """The file with the rules of the fraud police; None: the one that comes with it."""
    payment_provider_url: str = "http://127.0.0.1:9002"
    """Who makes the payments."""
    transaction_max_age_s: float = Field(86_400, gt=0)
    """How long a transaction may wait to be paid."""


def card_reducer(settings: Settings) -> CardReducer:
    """What reduces card numbers, with the keys of CARD_KEYS.

    There is none to fall back on: what is signed with a key that everybody knows can be guessed.

    Raises:
        ConfigurationError: there are no keys, or they are malformed.
    """
    if not settings.card_keys:
        raise ConfigurationError(
            "CARD_KEYS is not set: services that are told card numbers need a key, as id:base64 of"
            " at least 32 random bytes, and always the same"
        )
    return CardReducer(keys_of("CARD_KEYS", settings.card_keys))
