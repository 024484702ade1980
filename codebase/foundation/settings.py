"""Everything that can be configured, read once from the environment."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Self, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict
from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from codebase.foundation.errors import ConfigurationError

STORES = (
    "write_model_url",
    "write_model_owner_url",
    "write_model_relay_url",
    "write_model_reader_url",
    "write_model_head_url",
    "write_model_reaction_url",
    "read_model_url",
    "read_model_owner_url",
    "read_model_projector_url",
)
SUPERUSERS = ("write_model_superuser_url", "read_model_superuser_url")
MAY_BE_SECRET = re.compile(r"URL|TOKEN|TWO_FA|PASSWORD|KEY|HEADERS")
"""Names of variables whose values are not repeated."""
TOLD_MAX = 60

LOOPBACK_HOSTS = frozenset({"127.0.0.1", "::1", "localhost"})


def split_commas(value: object) -> object:
    """The parts of a comma-separated text; anything else stays as it is."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


class Settings(BaseSettings):
    """The environment of one process; the variable names are the upper-case field names.

    What only one context wants to know is in a subclass of its own. Durations are in seconds unless
    the name says otherwise, sizes in bytes.
    """

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    # Where things are. The embedded run fills these in; anywhere else they are required by use.
    orderly_home: Path = Path(".local")
    port_offset: int = Field(0, ge=0, le=20_000)
    listen_address: str = "127.0.0.1"
    development: bool = False
    """True only in the embedded run: allows the labelled demo price source."""
    write_model_url: str | None = None
    """libpq URL or key=value string for the command services' role."""
    write_model_owner_url: str | None = None
    """The role that owns the schema: migrations, and closing a log that was copied."""
    write_model_superuser_url: str | None = None
    """Whoever makes the owner and the roles: `orderly roles` and nothing else."""
    write_model_relay_url: str | None = None
    """The role of event_relay: reads the log, moves the relay's checkpoint."""
    write_model_reader_url: str | None = None
    """The role of everything that only reads the log: gap repair, verify, rebuild."""
    write_model_head_url: str | None = None
    """The role that sees how far the log goes: query services ask before they wait for a position.
    Without it they wait for whatever a token of their log names."""
    write_model_reaction_url: str | None = None
    """The role of reactions: reads and writes what events cause, beside the log."""
    read_model_url: str | None = None
    """The role of the query services: SELECT and nothing else."""
    read_model_owner_url: str | None = None
    read_model_superuser_url: str | None = None
    read_model_projector_url: str | None = None
    """The role of read_model_sync: reads and writes rows, never changes tables."""
    broker_url: str | None = None
    """amqp:// URL; without it the log itself feeds the projectors."""

    service_processes: int = Field(1, ge=1, le=64)
    """How many processes share the port of a service that may have several. In each of them: how
    many there are."""

    # Who may call.
    api_tokens: Annotated[tuple[str, ...], NoDecode] = ()
    """`name:role:sha256hex` entries, comma-separated; see `orderly token`."""
    two_fa: str | None = Field(None, min_length=16)
    service_token: str | None = None
    """What services send to each other when API_TOKENS is set: the secret of one of its entries."""
    payment_provider_token: str | None = None
    """What the payment provider is asked with."""
    smtp_url: str | None = None
    """Who takes alerts by e-mail, and the password that this takes."""
    sms_webhook_url: str | None = None
    """Who passes alerts on as short messages; None: nobody gets any."""
    fingerprint_keys: Annotated[tuple[str, ...], NoDecode] = ()
    """`id:base64` entries, comma-separated, of 32 bytes or more: the first signs what commands ask
    for, all of them compare. None may go while there are events that it signed."""
    card_keys: Annotated[tuple[str, ...], NoDecode] = ()
    """`id:base64` entries likewise: the first signs what is kept of card numbers, all compare."""

    # The write side.
    partitions: int = Field(1, ge=1, le=1024)
    """Chosen when the write model is first migrated; a later change is refused."""
    own_partitions: Annotated[tuple[int, ...], NoDecode] = ()
    """What this process' relay or projectors work on; empty: every partition."""
    command_batch_max: int = Field(512, ge=1, le=10_000)
    command_queue_max: int = Field(10_000, ge=1)
    command_deadline_seconds: float = Field(5.0, gt=0)
    command_notes_days: int = Field(90, ge=1, le=36_500)
    """How long a command that had nothing to do is known by its key; events are known for ever."""

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

    # What events cause.
    reaction_attempts_max: int = Field(20, ge=1, le=1000)
    """How often something is tried at a target that is there, before it is parked."""
    reaction_in_flight: int = Field(32, ge=1, le=1000)
    """How much of one reaction may be on its way to one target at a time, in each process."""
    reaction_done_days: int = Field(30, ge=1, le=36_500)
    """How long it is known what became of something."""

    # The read side and HTTP.
    consistency_wait_ms: int = Field(2000, ge=0, le=60_000)
    consistency_waiting_max: int = Field(1000, ge=1)
    """How many requests of a query service may wait for what their token names."""
    consistency_waiting_max_per_caller: int = Field(250, ge=1)
    """How many of them may be of one caller."""
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

    @field_validator("api_tokens", "fingerprint_keys", "card_keys", "own_partitions", mode="before")
    @classmethod
    def _split_commas(cls, value: object) -> object:
        return split_commas(value)

    @field_validator(*STORES, *SUPERUSERS)
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
        if not self.api_tokens and self.listen_address not in LOOPBACK_HOSTS:
            raise ValueError("LISTEN_ADDRESS must be a loopback address while API_TOKENS is empty")
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

    def share_of(self, bound: int) -> int:
        """What each process takes of a bound that all processes of its service keep together."""
        return max(1, bound // self.service_processes)

    def required(self, field: str) -> str:
        """The value of an address that this process cannot do without.

        Raises:
            ConfigurationError: it is not set; the text names the variable, and what else would do.
        """
        value = getattr(self, field)
        if not isinstance(value, str) or not value:
            raise ConfigurationError(
                f"{field.upper()} is not set, and {self.orderly_home} is not the folder of an"
                " embedded run that has set it: is ORDERLY_HOME another one?"
            )
        return value


Kind = TypeVar("Kind", bound=Settings)


def load_settings(*kinds: type[Settings], embedded_home: bool = True) -> Settings:
    """Read the environment, and below it what an embedded run left in `<ORDERLY_HOME>/environment`.

    Args:
        kinds: subclasses that must be readable as well; whoever wants one asks `extended` for it.
        embedded_home: False for whoever writes that file, so that one run's choices do not stick.

    Raises:
        ConfigurationError: names every variable that is wrong, and says why.
    """
    home = Path(os.environ.get("ORDERLY_HOME") or ".local")
    file = home / "environment" if embedded_home else None
    read: list[Settings] = []
    wrong: dict[str, None] = {}
    every: list[type[Settings]] = [Settings, *kinds]
    for kind in every:
        try:
            read.append(kind(_env_file=file))  # type: ignore[call-arg]
        except ValidationError as error:
            wrong |= dict.fromkeys(_sentences(error))
    if wrong:
        raise ConfigurationError("; ".join(wrong))
    return read[0]


def extended(settings: Settings, kind: type[Kind], *, embedded_home: bool = True) -> Kind:
    """The same settings, and those that only `kind` has, from where `load_settings` looks.

    Raises:
        ConfigurationError: names every variable that is wrong, and says why.
    """
    if isinstance(settings, kind):
        return settings
    file = settings.orderly_home / "environment" if embedded_home else None
    try:
        return kind(_env_file=file, **settings.model_dump())  # type: ignore[call-arg]
    except ValidationError as error:
        raise ConfigurationError("; ".join(_sentences(error))) from error


def _sentences(error: ValidationError) -> Iterator[str]:
    """What is wrong with each variable, and what was found there, unless that may be a secret."""
    for item in error.errors():
        variable = str(item["loc"][0]).upper() if item["loc"] else "settings"
        may_be_told = item["loc"] and not MAY_BE_SECRET.search(variable)
        found = f"; found {str(item['input'])[:TOLD_MAX]!r}" if may_be_told else ""
        yield f"{variable}: {item['msg']}{found}"
