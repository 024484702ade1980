"""Hears of what is appended to a partition, so that an idle reader need not look all the time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from psycopg import Connection, Notify, sql

REST = "SELECT pg_try_advisory_lock(%(lock)s, %(partition)s)"
STAY_AWAKE = "SELECT pg_advisory_unlock(%(lock)s, %(partition)s)"
REST_LOCK = 0x72657374  # "rest" in ASCII; migrations/write_model/0023 has it in decimal

LISTEN = "LISTEN {channel}"


class Growth:
    """One reader's ear for one partition; appends tell only while a reader rests.

    Args:
        log: a connection in autocommit mode; closing it ends a rest. News come with any answer of
            the server, and make the connection's socket readable while nothing is asked.
        partition: of the log; one reader at a time can rest.
        told: called when somebody has told, from within whatever the connection is asked.
    """

    def __init__(self, log: Connection[Any], partition: int, told: Callable[[], None]) -> None:
        self._log = log
        self._told = told
        self._key = {"lock": REST_LOCK, "partition": partition}
        self._is_resting = self._was_told = False
        log.add_notify_handler(self._on_news)
        channel = sql.Identifier(f"log_growth_{partition}")
        log.execute(sql.SQL(LISTEN).format(channel=channel))

    @property
    def is_resting(self) -> bool:
        """Whether appends that begin now will tell."""
        return self._is_resting

    def rest(self) -> bool:
        """Have appends tell from now on.

        What was committed before has to be looked for once more.

        Returns:
            False when an append is under way, and nobody will tell.

        Raises:
            psycopg.Error: the server cannot be asked.
        """
        self._was_told = False
        row = self._log.execute(REST, self._key, prepare=True).fetchone()
        self._is_resting = row is not None and row[0]
        return self._is_resting

    def stay_awake(self) -> None:
        """Appends need tell no longer; nothing when they don't.

        Raises:
            psycopg.Error: the server cannot be asked.
        """
        if self._is_resting:
            self._is_resting = False
            self._log.execute(STAY_AWAKE, self._key, prepare=True)

    def take_news(self) -> bool:
        """Whether something was told since this was last asked."""
        told, self._was_told = self._was_told, False
        return told

    def _on_news(self, _news: Notify) -> None:
        self._was_told = True
        self._told()
