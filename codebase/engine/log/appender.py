"""Which way of appending costs least."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from psycopg import AsyncConnection

from codebase.engine.log.appending import Appended, append
from codebase.engine.log.creations import alike, append_creations
from codebase.engine.log.events import NewEvent
from codebase.engine.log.notes import Note


class Appender:
    """Appends batch after batch, creations that are alike in the way that is made for them.

    That way is all or nothing. Where units are refused, because many commands are repeats or a
    budget is spent, it would be tried in vain: it is left out until nothing was refused.

    Args:
        notes_kept_days: how old notes become before they are forgotten.
    """

    def __init__(self, notes_kept_days: int) -> None:
        self._notes_kept_days = notes_kept_days
        self._none_refused = True

    async def append(
        self,
        connection: AsyncConnection[Any],
        events: Sequence[NewEvent],
        notes: Sequence[tuple[int, Note]] = (),
    ) -> Appended:
        """As `append` in `engine.log.appending`."""
        if self._none_refused and events and not notes and (creations := alike(events)):
            appended = await append_creations(connection, creations)
            if appended is not None:
                return appended
        appended = await append(connection, events, notes, notes_kept_days=self._notes_kept_days)
        self._none_refused = not appended.refused
        return appended
