"""Whom nobody is to be told of at the moment."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from uuid import UUID

import psycopg

from codebase.foundation.errors import ServiceUnavailable
from codebase.foundation.postgres import DeadlinedConnection, trouble
from codebase.foundation.settings import Settings
from codebase.model.payments.alert import Alert
from codebase.model.payments.silence import Matcher

logger = logging.getLogger(__name__)

FIND_SILENCES = """
    SELECT id, client, rule FROM alert_silence
    WHERE ended_at IS NULL AND ends_at > statement_timestamp()
    ORDER BY begun_at, id
"""


class Silences:
    """Those that hold, as the read model has them.

    Args:
        connection: to the read model.
    """

    def __init__(self, connection: DeadlinedConnection) -> None:
        self._connection = connection

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Settings) -> AsyncIterator[Silences]:
        """Connected when needed; the connection is closed on leaving."""
        connection = DeadlinedConnection(
            settings.required("read_model_url"),
            "read_model",
            application="alertman silences",
            deadline_seconds=settings.database_deadline_seconds,
        )
        try:
            yield cls(connection)
        finally:
            await connection.close()

    async def of(self, alerts: Sequence[Alert]) -> dict[UUID, UUID]:
        """Alert -> the silence that it matches, for those that match one.

        Where silences cannot be read there are none: a mail too many is better than one too few.
        """
        try:
            found = await self._read()
        except (ServiceUnavailable, psycopg.Error) as error:
            logger.warning("silences cannot be read, so none holds: %s", trouble(error))
            return {}
        return {
            alert.id: silence
            for alert in alerts
            for silence, matcher in reversed(found)
            if matcher.matches(alert.client, alert.rules)
        }

    async def _read(self) -> list[tuple[UUID, Matcher]]:
        connection = await self._connection.get()
        cursor = await self._connection.in_time(connection.execute(FIND_SILENCES))
        rows = await cursor.fetchall()
        return [(silence, Matcher(client=client, rule=rule)) for silence, client, rule in rows]
