"""How far the log has arrived at the broker; kept beside the log."""

from __future__ import annotations

from typing import Any

from psycopg import Connection, Cursor

READ_CHECKPOINT = "SELECT position FROM relay_checkpoint WHERE partition = %(partition)s"

MOVE_CHECKPOINT = """
    UPDATE relay_checkpoint SET position = %(new)s
    WHERE partition = %(partition)s AND position = %(old)s
"""


class LostPlaceError(Exception):
    """The checkpoint is not where this relay left it: somebody else moved it."""


def read_checkpoint(database: Connection[Any], partition: int) -> int:
    """The last position that is known to have arrived.

    Raises:
        LostPlaceError: there is no such partition.
    """
    row = database.execute(READ_CHECKPOINT, {"partition": partition}).fetchone()
    if row is None:
        raise LostPlaceError(f"the log has no partition {partition}")
    return int(row[0])


def move_checkpoint(cursor: Cursor[Any], partition: int, *, old: int, new: int) -> None:
    """Note that everything up to `new` has arrived.

    Raises:
        LostPlaceError: the checkpoint is not at `old`.
    """
    step = {"partition": partition, "old": old, "new": new}
    if cursor.execute(MOVE_CHECKPOINT, step, prepare=True).rowcount != 1:
        raise LostPlaceError(f"the checkpoint is no longer at {old}")
