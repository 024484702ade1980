"""What a process may be told in confidence, by what it does: names of fields of the settings.

A service says in `NEEDS` which of these it needs. It gets no other, wherever it runs.
"""

from __future__ import annotations

from collections.abc import Collection

from codebase.foundation.settings import STORES, SUPERUSERS, Settings

COMMANDS = ("write_model_url", "fingerprint_keys")
"""To take commands."""
QUERIES = ("read_model_url", "write_model_head_url")
"""To answer pages, and to tell whether the log is what a client's token is about."""
PROJECTOR = ("write_model_reader_url", "read_model_projector_url")
"""To fill tables with what the log says."""
REACTION = ("write_model_reader_url", "write_model_reaction_url")
"""To follow the log, and to do what events cause."""
RELAY = ("write_model_relay_url",)
BROKER = ("broker_url",)
FINGERPRINTS = ("fingerprint_keys",)
CARDS = ("card_keys",)
"""To be told card numbers."""
SECOND_FACTOR = ("two_fa",)
OTHER_SERVICES = ("service_token",)
"""To ask other services."""

PAYMENT_PROVIDER = ("payment_provider_token",)
"""To have payments made."""
ALERTS = ("smtp_url", "sms_webhook_url")
"""To have people told."""

SECRETS = frozenset(
    {
        *STORES,
        *SUPERUSERS,
        *FINGERPRINTS,
        *CARDS,
        *BROKER,
        *SECOND_FACTOR,
        *OTHER_SERVICES,
        *PAYMENT_PROVIDER,
        *ALERTS,
    }
)
"""What is told only to those who need it.

API_TOKENS is not among them: it holds digests, which everybody compares with.
"""


def narrowed(settings: Settings, needed: Collection[str]) -> Settings:
    """The settings without the secrets that are not needed."""
    forgotten = {name: Settings.model_fields[name].default for name in SECRETS.difference(needed)}
    return settings.model_copy(update=forgotten)
