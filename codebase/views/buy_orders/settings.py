"""What can be configured about buy orders and the prices that they are placed at."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import NoDecode

from codebase.foundation.settings import Settings, split_commas


class BuyOrderSettings(Settings):
    """The environment of a service of this context; durations in seconds, amounts in bitcoin."""

    btc_price_url: str = "http://127.0.0.1:8779"
    order_book_limit_btc: Decimal = Field(Decimal(100), gt=0, max_digits=28, decimal_places=8)
    btc_price_max_age_s: float = Field(3600, gt=0)
    btc_price_interval_s: float = Field(15, gt=0)
    btc_price_max_jump: float = Field(0.2, gt=0)
    """Largest relative step between two prices that a single source is believed for."""
    btc_price_sources: Annotated[tuple[str, ...], NoDecode] = ("coinbase", "kraken", "bitstamp")
    coinbase_url: str = "https://api.coinbase.com"
    kraken_url: str = "https://api.kraken.com"
    bitstamp_url: str = "https://www.bitstamp.net"
    btc_price_source_timeout_seconds: float = Field(3, gt=0)

    @field_validator("btc_price_sources", mode="before")
    @classmethod
    def _split_sources(cls, value: object) -> object:
        return split_commas(value)
