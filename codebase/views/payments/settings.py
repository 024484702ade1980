"""What can be configured about transactions, and the keys that their cards are reduced with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, field_validator
from pydantic_settings import NoDecode

from codebase.foundation.errors import ConfigurationError
from codebase.foundation.keys import keys_of
from codebase.foundation.settings import Settings, split_commas
from codebase.foundation.tokens import TokenEntry
from codebase.model.payments.cards import RUN_OF_DIGITS, CardReducer, holds_card_number
from codebase.web.fields import read_email

LONGEST_WAIT_SECONDS = 30 * 86_400
"""A later moment is none that anybody waits for, and some are none at all."""


class PaymentSettings(Settings):
    """The environment of a service of this context; durations in seconds."""

    fraud_police_url: str = "http://127.0.0.1:8090"
    """Whom transactions are shown to before they are paid."""
    fraud_rules: Path | None = None
    """The file with the rules of the fraud police; None: the one that comes with it."""
    payment_provider_url: str = "http://127.0.0.1:9002"
    """Who makes the payments."""
    transaction_max_age_s: float = Field(86_400, gt=0, le=LONGEST_WAIT_SECONDS, allow_inf_nan=False)
    """How long a transaction may wait to be paid: 30 days at most."""
    payments_in_flight: int = Field(64, ge=1, le=1000)
    """How many the fraud police is shown at a time, and the provider, by each process."""
    alert_from: Annotated[str, AfterValidator(read_email)] | None = None
    """Whom mails about flagged transactions come from, where SMTP_URL says who takes them."""
    alert_to: Annotated[tuple[Annotated[str, AfterValidator(read_email)], ...], NoDecode] = ()
    """Who gets them, separated by commas."""
    smtp_ca_file: Path | None = None
    """Whom the certificate of SMTP_URL's server comes from; None: whom this machine trusts."""
    alert_mail_folder: Path | None = None
    """Where mails are files while there is no SMTP_URL; else, embedded, a folder of its home."""
    alert_mail_days: int = Field(90, ge=1, le=36_500)
    """How long those files are kept."""

    @field_validator("alert_to", mode="before")
    @classmethod
    def _split_recipients(cls, value: object) -> object:
        return split_commas(value)


def require_payable(name: str) -> None:
    """Refuse a caller whose name may be a card's number, before it pays.

    Its name goes wherever its payments go, and is refused there, as every text is that has so many
    digits in a row: no payment would ever be judged. Names that we were configured with could be
    let through instead; but then what is looked for and found would no longer be a card's number.

    Raises:
        ConfigurationError: it may be one; the digits are not repeated.
    """
    if holds_card_number(name):
        raise ConfigurationError(
            f"{RUN_OF_DIGITS.sub('…', name)} is no name of who pays: it has 12 digits in a row, as"
            " the number of a card, and what has that is refused wherever payments go"
        )


def card_reducer(settings: Settings) -> CardReducer:
    """What reduces card numbers, with the keys of CARD_KEYS.

    There is none to fall back on: what is signed with a key that everybody knows can be guessed.

    Raises:
        ConfigurationError: there are no keys, or they are malformed; or a caller has a name that
            may be a card's number.
    """
    for place, entry in enumerate(settings.api_tokens, 1):
        try:
            require_payable(TokenEntry.parse(entry).name)
        except ConfigurationError as error:
            raise ConfigurationError(f"API_TOKENS, entry {place}: {error}") from error
    if not settings.card_keys:
        raise ConfigurationError(
            "CARD_KEYS is not set: services that are told card numbers need a key, as id:base64 of"
            " at least 32 random bytes, and always the same"
        )
    return CardReducer(keys_of("CARD_KEYS", settings.card_keys))
