"""What a worker makes sure of before it trusts the log that it was pointed at."""

from __future__ import annotations

from typing import Any

from psycopg import Connection

from codebase.engine.log.extent import read_log_id
from codebase.engine.log.reading import read_heads

READ_EVENT_ID = """
    SELECT meta ->> 'event_id' FROM event
    WHERE partition = %(partition)s AND position = %(position)s
"""
READ_HEAD = "SELECT position FROM log_head WHERE partition = %(partition)s"


class LogMismatchError(Exception):
    """The log is not the one that the settings, or a checkpoint, are about."""


def check_partitions(log: Connection[Any], expected: int) -> None:
    """Refuse to serve some partitions of a log that has others.

    Args:
        log: a connection to the write model.
        expected: how many partitions the settings speak of.

    Raises:
        LogMismatchError: the log has more, or fewer.
    """
    found = len(read_heads(log))
    if found != expected:
        raise LogMismatchError(f"PARTITIONS is {expected}, and the log has {found}")


def read_head(log: Connection[Any], partition: int, reached: int) -> int:
    """The last position of a partition, which is `reached` or later.

    Raises:
        LogMismatchError: the log ends before `reached`. It was restored from a backup, or it is
            another log; what it gets from now on would be taken for what is known already.
    """
    row = log.execute(READ_HEAD, {"partition": partition}, prepare=True).fetchone()
    head = 0 if row is None else int(row[0])
    check_head(partition, head, reached)
    return head


def check_head(partition: int, head: int, reached: int) -> None:
    """Refuse to go on where the log ends before the position that was reached.

    Raises:
        LogMismatchError: as `read_head`.
    """
    if head < reached:
        raise LogMismatchError(
            f"partition {partition} of the log ends at {head}, and the checkpoint is {reached}"
        )


def check_log(log: Connection[Any], reached: int, expected: str | None) -> str:
    """Refuse to go on in another log than the one that was read so far.

    Args:
        log: a connection to the write model.
        reached: how far it was read; whoever has read nothing may read any.
        expected: which log that was, if it is known.

    Returns:
        Which log it is.

    Raises:
        LogMismatchError: it is another.
    """
    found = read_log_id(log)
    if reached and expected not in {None, found}:
        raise LogMismatchError(f"this is the log {found}, and the checkpoint is of {expected}")
    return found


def check_event(log: Connection[Any], partition: int, position: int, event_id: str) -> None:
    """Refuse to go on from an event where the log holds another one.

    Args:
        log: a connection to the write model.
        partition: of the log.
        position: of the event that was read last.
        event_id: its id.

    Raises:
        LogMismatchError: the log was restored from a backup and has grown since, or it is another.
    """
    key = {"partition": partition, "position": position}
    row = log.execute(READ_EVENT_ID, key, prepare=True).fetchone()
    if row is not None and row[0] != event_id:
        raise LogMismatchError(
            f"partition {partition} of the log holds another event at {position} than the one that"
            " the checkpoint is about"
        )
