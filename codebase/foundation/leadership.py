"""One process at a time does a piece of work; the others stand by, and take over when it is gone.

Who leads holds an advisory lock of Postgres. The lock belongs to the connection that the work is
done on: who loses the connection loses both.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, LiteralString

from psycopg import Connection

RETRY_SECONDS = 0.5


def wait_to_lead(
    connection: Connection[Any],
    lock: LiteralString,
    key: Mapping[str, Any],
    stop: threading.Event,
    *,
    stand_by: Callable[[], None] = lambda: None,
) -> bool:
    """Wait until nobody else leads.

    Args:
        connection: in autocommit mode; closing it ends the leadership.
        lock: calls `pg_try_advisory_lock`; whoever calls it with the same values does the same
            work.
        key: the parameters of `lock`.
        stop: ends the wait.
        stand_by: called whenever somebody else was found to lead.

    Returns:
        False when it was stopped before.

    Raises:
        psycopg.Error: the server cannot be asked.
    """
    while not stop.is_set():
        row = connection.execute(lock, key).fetchone()
        if row is not None and row[0]:
            return True
        stand_by()
        stop.wait(RETRY_SECONDS)
    return False
