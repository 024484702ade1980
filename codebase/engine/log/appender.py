"""Which way of appending costs least."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from psycopg import AsyncConnection

from codebase.engine.log.appending import Appended, append
from codebase.engine.log.creations import alike, append_creations
from codebase.engine.log.events import NewEvent
from codebase.engine.log.notes import Note

CLEAN = 4
"""So many batches in a row of which nothing was refused: it is likely that of the next one nothing
will be. Who is wrong about that has it written twice."""


class Appender:
    """Appends batch after batch, creations that are alike in the way that is made for them.

    That way is all or nothing. Where units are refused, because many commands are repeats or a
    budget is spent, it would be tried in vain: it is left out until nothing is refused for a while.

    Args:
        notes_kept_days: how old notes become before they are forgotten.
    """

    def __init__(self, notes_kept_days: int) -> None:
        self._notes_kept_days = notes_kept_days
        self._clean = CLEAN

    async def append(
        self,
        connection: AsyncConnection[Any],
        events: Sequence[NewEvent],
        notes: Sequence[tuple[int, Note]] = (),
    ) -> Appended:
        """As `append` in `engine.log.appending`."""
        is_clean = self._clean >= CLEAN
        if is_clean and events and not notes and (creations := alike(events)):
            appended = await append_creations(connection, creations)
            if appended is not None:
                return appended
        appended = await append(connection, events, notes, notes_kept_days=self._notes_kept_days)
        self._clean = 0 if appended.refused else self._clean + 1
        return appended
