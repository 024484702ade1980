"""The relay: publishes the log to the broker, in order, and never loses an event.

Whatever goes wrong between us and the broker leaves us in doubt about what arrived. The answer is
always the same: connect again, declare the topology again, publish again from the checkpoint, with
the same message ids. Consumers recognise a repeat by its position.
"""

from __future__ import annotations

import logging
import threading

import psycopg

from codebase.engine.log.check import LogMismatchError, check_partitions, read_head
from codebase.engine.messages.connection import (
    BROKER_ERRORS,
    REQUEST_DEADLINE_SECONDS,
    blocking_connection,
    deadline,
    what_the_broker_does,
)
from codebase.engine.messages.relay_checkpoint import LostPlaceError, read_checkpoint
from codebase.engine.messages.relay_session import REPUBLISHED, InDoubtError, RelaySession
from codebase.engine.messages.topology import declare_published
from codebase.foundation.backoff import Pauses
from codebase.foundation.leadership import wait_to_lead
from codebase.foundation.postgres import connect, trouble
from codebase.foundation.progress import Progress, ProgressGauges
from codebase.foundation.settings import Settings
from codebase.foundation.sql_watch import SqlWatch
from codebase.foundation.worker import Team, Worker

logger = logging.getLogger(__name__)

# One relay per partition, on the connection that moves the checkpoint.
LEAD = "SELECT pg_try_advisory_lock(%(lock)s, %(partition)s)"
RELAY_LOCK = 0x72656C79  # "rely" in ASCII

# A lost checkpoint only means publishing again what consumers know already.
RELAY_OPTIONS = "-c synchronous_commit=off"

GAUGES = ProgressGauges("orderly_relay", ["partition"])

EXPECTED_ERRORS: tuple[type[Exception], ...] = (
    psycopg.Error,
    InDoubtError,
    LostPlaceError,
    LogMismatchError,
    *BROKER_ERRORS,
)


class PartitionRelay:
    """Publishes one partition while it holds the partition's lock.

    Args:
        partition: of the log.
        settings: addresses, window, idle rest.
        stop: ends the work.
    """

    def __init__(self, partition: int, settings: Settings, stop: threading.Event) -> None:
        self.partition = partition
        self._settings = settings
        self._stop = stop
        self._pauses = Pauses(stop)
        self._watch = SqlWatch(settings.database_deadline_seconds, stop)
        # Up to here something may have been published before: publishing it is a repeat.
        self._furthest = 0
        self._progress = Progress(GAUGES, partition)
        REPUBLISHED.labels(partition)
        self._waiting_for: str | None = "not connected yet"

    def what_is_missing(self) -> str | None:
        """What keeps the relay from working, or None; called by other threads."""
        return self._watch.what_is_late() or self._waiting_for

    def run(self, _stop: threading.Event) -> None:
        """Work until stopped; whatever happens to database or broker, try again."""
        while not self._stop.is_set():
            try:
                self._connect_and_relay()
            except EXPECTED_ERRORS as error:
                self._waiting_for = _reason(error)
                self._progress.pause()
                logger.warning("relay %d pauses: %s", self.partition, describe(error))
                self._pauses.pause()
        self._progress.stand_by()

    def _connect_and_relay(self) -> None:
        url = self._settings.required("write_model_relay_url")
        with connect(url, "event_relay", options=RELAY_OPTIONS) as database:
            self._watch.over(database)
            check_partitions(database, self._settings.partitions)
            key = {"lock": RELAY_LOCK, "partition": self.partition}
            if not wait_to_lead(database, LEAD, key, self._stop, stand_by=self._stand_by):
                return
            checkpoint = read_checkpoint(database, self.partition)
            # Before the broker is needed: while it is away the log goes on to grow.
            head = read_head(database, self.partition, checkpoint)
            self._progress.measure(database, head, checkpoint)
            self._declare()
            session = RelaySession(
                self.partition,
                self._settings,
                database,
                checkpoint,
                stop=self._stop,
                progress=self._progress,
            )
            session.furthest = self._furthest
            session.on_progress = self._on_progress
            try:
                session.run()
            finally:
                self._furthest = session.furthest

    def _on_progress(self) -> None:
        self._waiting_for = None
        self._pauses.succeeded()

    def _stand_by(self) -> None:
        self._progress.stand_by()
        self._waiting_for = None  # a standby is healthy

    def _declare(self) -> None:
        url = self._settings.required("broker_url")
        with (
            blocking_connection(url, "event_relay topology") as connection,
            deadline(connection, REQUEST_DEADLINE_SECONDS),
        ):
            declare_published(connection.channel())


def _reason(error: Exception) -> str:
    """What keeps a relay from working; a broker's or a database's own text is not for everybody."""
    if isinstance(error, LostPlaceError | LogMismatchError):
        return str(error)
    if isinstance(error, BROKER_ERRORS):
        return what_the_broker_does(error)
    return trouble(error)


def describe(error: Exception) -> str:
    """What went wrong, without values of events."""
    if isinstance(error, psycopg.Error):
        return f"{type(error).__name__} {error.sqlstate or ''}".strip()
    return f"{type(error).__name__}: {error}"


def relay_team(settings: Settings) -> Team:
    """One relay per partition; nobody when there is no broker.

    Args:
        settings: addresses, partitions, window.
    """
    stop = threading.Event()
    partitions = settings.worked_partitions if settings.broker_url else ()
    relays = [PartitionRelay(each, settings, stop) for each in partitions]
    return Team(
        [Worker(f"event_relay.{relay.partition}", relay.run, stop=stop) for relay in relays],
        [relay.what_is_missing for relay in relays],
    )
