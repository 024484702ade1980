"""Why what is to be done is not done yet, for services that show it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import psycopg

from codebase.engine.reactions.reaction import Reaction
from codebase.engine.reactions.store import REACTION_STORE
from codebase.foundation.errors import ServiceUnavailable
from codebase.foundation.postgres import DeadlinedConnection
from codebase.foundation.settings import Settings

# By the index of what is open: a subject has one that was tried, the first.
READ_REASONS = """
    SELECT data, reason FROM intent
    WHERE reaction = %(reaction)s AND subject = ANY (%(subjects)s)
      AND ended_at IS NULL AND is_next AND reason IS NOT NULL
"""


class Waiting:
    """What is to be done for subjects of one reaction, and was tried in vain.

    Args:
        reaction: its name.
        connection: to its store.
    """

    def __init__(self, reaction: str, connection: DeadlinedConnection) -> None:
        self._reaction = reaction
        self._connection = connection

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Settings, reaction: Reaction) -> AsyncIterator[Waiting]:
        """Connected when needed; the connection is closed on leaving."""
        connection = DeadlinedConnection(
            settings.required(REACTION_STORE.worker_url),
            "write_model",
            application=f"{reaction.name} waiting",
            deadline_seconds=settings.database_deadline_seconds,
            options=REACTION_STORE.options,
        )
        try:
            yield cls(reaction.name, connection)
        finally:
            await connection.close()

    async def reasons(self, subjects: Collection[UUID]) -> list[tuple[Mapping[str, Any], str]]:
        """What was sent, and why it is not done; nothing while the store does not tell."""
        if not subjects:
            return []
        try:
            return await self._connection.in_time(self._reasons(subjects))
        except (ServiceUnavailable, psycopg.Error):
            return []

    async def _reasons(self, subjects: Collection[UUID]) -> list[tuple[Mapping[str, Any], str]]:
        connection = await self._connection.get()
        key = {"reaction": self._reaction, "subjects": list(subjects)}
        return await (await connection.execute(READ_REASONS, key)).fetchall()
