"""Everything that can be configured, read once from the environment."""

from __future__ import annotations

import os
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Self

import psycopg
from psycopg.conninfo import conninfo_to_dict
from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from codebase.foundation.errors import ConfigurationError
from codebase.model.accounts.account import Region

STORES = (
    "write_model_url",
    "write_model_owner_url",
    "write_model_relay_url",
    "write_model_reader_url",
    "read_model_url",
    "read_model_owner_url",
    "read_model_projector_url",
)
LOOPBACK_HOSTS = frozenset({"127.0.0.1", "::1", "localhost"})


class Settings(BaseSettings):
    """The environment of one process; the variable names are the upper-case field names.

    Durations are in seconds unless the name says otherwise, sizes in bytes, amounts in bitcoin.
    """

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    # Where things are. The embedded run fills these in; anywhere else they are required by use.
    orderly_home: Path = Path(".local")
    port_offset: int = Field(0, ge=0, le=20_000)
    host: str = "127.0.0.1"
    development: bool = False
    """True only in the embedded run: allows the labelled demo price source."""
    write_model_url: str | None = None
    """libpq URL or key=value string for the command services' role."""
    write_model_owner_url: str | None = None
    """The role that owns the schema: migrations and nothing else."""
    write_model_relay_url: str | None = None
    """The role of event_relay: reads the log, moves the relay's checkpoint."""
    write_model_reader_url: str | None = None
    """The role of everything that only reads the log: gap repair, verify, rebuild."""
    read_model_url: str | None = None
    """The role of the query services: SELECT and nothing else."""
    read_model_owner_url: str | None = None
    read_model_projector_url: str | None = None
    """The role of read_model_sync: reads and writes rows, never changes tables."""
    broker_url: str | None = None
    """amqp:// URL; without it the log itself feeds the projectors."""
    btc_price_url: str = "http://127.0.0.1:8779"
    block_agent_url: str = "http://127.0.0.1:9090"
    """Where compliance blocks agents when there is no broker."""

    # Who may call.
    api_tokens: Annotated[tuple[str, ...], NoDecode] = ()
    """`name:role:sha256hex` entries, comma-separated; see `orderly token`."""
    two_fa: str | None = None
    service_token: str | None = None
    """What services send to each other when API_TOKENS is set: the secret of one of its entries."""

    # The write side.
    partitions: int = Field(1, ge=1, le=1024)
    """Chosen when the write model is first migrated; a later change is refused."""
    own_partitions: Annotated[tuple[int, ...], NoDecode] = ()
    """What this process' relay or projectors work on; empty: every partition."""
    command_batch_max: int = Field(512, ge=1, le=10_000)
    command_queue_max: int = Field(10_000, ge=1)
    command_deadline_seconds: float = Field(5.0, gt=0)
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

    # From the log to the others.
    relay_window: int = Field(1000, ge=1, le=10_000)
    """Events in flight to the broker without a confirm."""
    projector_batch: int = Field(1000, ge=1, le=50_000)
    max_attempts: int = Field(3, ge=1)
    """How often a projector tries an event before it parks the event's stream."""
    idle_poll_seconds: float = Field(0.02, gt=0)
    """How long a reader of the log rests when nothing is new."""
    read_model_check_seconds: float = Field(1.0, gt=0)
    """How long a queue may be silent before the projector compares itself with the log."""
    projector_delay_seconds: float = Field(0, ge=0)
    """For tests: how long a projector rests before it applies what it has read."""

    reply_wait_seconds: float = Field(10, gt=0)
    """How long compliance waits for a command's outcome before it sends the command again."""
    region: Region | None = None
    """Billing looks after this region only; None: after all of them."""

    # The read side and HTTP.
    consistency_wait_ms: int = Field(2000, ge=0, le=60_000)
    read_connections: int = Field(4, ge=1, le=100)
    database_deadline_seconds: float = Field(3.0, gt=0)
    body_limit_bytes: int = Field(65_536, ge=1024)
    client_deadline_seconds: float = Field(10.0, gt=0)
    """How long a client may take to send its headers, or its body."""
    drain_seconds: float = Field(8.0, gt=0)
    """How long requests in flight may finish after SIGTERM."""
    access_log: bool = False

    # Logs.
    log_level: str = "INFO"
    logging_host: str | None = None
    logging_port: int = Field(24224, ge=1, le=65_535)

    # Traces; OpenTelemetry's own names, and OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES and
    # OTEL_TRACES_SAMPLER mean what they always do.
    otel_exporter_otlp_endpoint: str | None = Field(None, pattern=r"^https?://")
    """Where the collector is; None: there are no traces."""
    otel_exporter_otlp_headers: str | None = None
    """`name=value,…` for the collector, such as a key."""

    @field_validator("api_tokens", "btc_price_sources", "own_partitions", mode="before")
    @classmethod
    def _split_commas(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator(*STORES)
    @classmethod
    def _names_a_database(cls, value: str | None) -> str | None:
        try:
            conninfo_to_dict(value or "")
        except psycopg.ProgrammingError:
            # Its text would repeat what was given, password and all.
            raise ValueError("is not a libpq URL or key=value string") from None
        return value

    @field_validator("log_level")
    @classmethod
    def _known_level(cls, value: str) -> str:
        if value.upper() not in {"DEBUG", "INFO", "WARNING", "ERROR"}:
            raise ValueError("one of DEBUG, INFO, WARNING, ERROR")
        return value.upper()

    @model_validator(mode="after")
    def _protected_mode_stays_on_loopback(self) -> Self:
        if not self.api_tokens and self.host not in LOOPBACK_HOSTS:
            raise ValueError("HOST must be a loopback address while API_TOKENS is empty")
        return self

    @model_validator(mode="after")
    def _own_partitions_exist(self) -> Self:
        if any(not 0 <= partition < self.partitions for partition in self.own_partitions):
            raise ValueError("OWN_PARTITIONS: partitions are counted from 0 to PARTITIONS - 1")
        return self

    @property
    def worked_partitions(self) -> Sequence[int]:
        """The partitions that this process' relay or projectors work on."""
        return sorted(set(self.own_partitions)) or range(self.partitions)

    def required(self, field: str) -> str:
        """The value of an address that this process cannot do without.

        Raises:
            ConfigurationError: it is not set; the text names the variable.
        """
        value = getattr(self, field)
        if not isinstance(value, str) or not value:
            raise ConfigurationError(f"{field.upper()} is not set")
        return value


def load_settings(*, embedded_home: bool = True) -> Settings:
    """Read the environment, and below it what an embedded run left in `<ORDERLY_HOME>/environment`.

    Args:
        embedded_home: False for whoever writes that file, so that one run's choices do not stick.

    Raises:
        ConfigurationError: names every variable that is wrong, and says why.
    """
    try:
        home = Path(os.environ.get("ORDERLY_HOME") or ".local")
        return Settings(_env_file=home / "environment" if embedded_home else None)  # type: ignore[call-arg]
    except ValidationError as error:
        problems = (
            f"{'.'.join(map(str, item['loc'])).upper() or 'settings'}: {item['msg']}"
            for item in error.errors(include_input=False)
        )
        raise ConfigurationError("; ".join(problems)) from error
