"""What is about to be applied is noted first, so that even a process that dies of it is counted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from psycopg import Connection

from codebase.engine.projections.logged_events import LoggedEvent

READ_ATTEMPT = """
    SELECT last_position FROM projection_attempt
    WHERE projector = %(projector)s AND partition = %(partition)s
"""

# It is to survive this process, and need not survive the server: its commit waits for no disk.
NOTE_ATTEMPT = """
    INSERT INTO projection_attempt AS known
        (projector, partition, first_position, last_position, attempts)
    VALUES (%(projector)s, %(partition)s, %(first)s, %(last)s, 1)
    ON CONFLICT (projector, partition) DO UPDATE
    SET first_position = excluded.first_position,
        last_position = excluded.last_position,
        attempts = CASE
            WHEN known.first_position = excluded.first_position
             AND known.last_position = excluded.last_position
             AND excluded.first_position = excluded.last_position
            THEN known.attempts + 1 ELSE 1 END
    RETURNING attempts, set_config('synchronous_commit', 'off', true)
"""

FORGIVE_ATTEMPT = """
    UPDATE projection_attempt SET attempts = attempts - 1
    WHERE projector = %(projector)s AND partition = %(partition)s AND attempts > 0
"""


def last_attempted(store: Connection[Any], key: Mapping[str, Any]) -> int:
    """The last position that anybody has begun to apply, committed or not; 0: none.

    Args:
        store: a connection to the read model.
        key: `projector` and `partition`.
    """
    row = store.execute(READ_ATTEMPT, key).fetchone()
    return int(row[0]) if row else 0


def note_attempt(
    store: Connection[Any], key: Mapping[str, Any], first: LoggedEvent, last: LoggedEvent
) -> int:
    """Note what is about to be tried; returns which attempt this is for a single event."""
    parameters = {**key, "first": first.position, "last": last.position}
    row = store.execute(NOTE_ATTEMPT, parameters, prepare=True).fetchone()
    assert row is not None, "an upsert returns its row"  # noqa: S101 - an invariant
    return int(row[0])


def forgive_attempt(store: Connection[Any], key: Mapping[str, Any]) -> None:
    """Have the last attempt not count: what it was about is not to blame."""
    store.execute(FORGIVE_ATTEMPT, key)
