"""Both ends of a copy, and whether one can become what the other is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from psycopg import Connection

from codebase.engine.log.check import READ_EVENT_ID
from codebase.engine.log.extent import read_log_id
from codebase.engine.log.reading import read_heads
from codebase.foundation.postgres import connect
from codebase.operations.log_copy.errors import CopyError
from codebase.operations.log_copy.tables import replace_table

# There may be as many claims as there are: a server's deadline says nothing here.
OPTIONS = "-c statement_timeout=0"

# "copy" in ASCII. Whoever copies has it at both ends, which are one if it cannot be had twice.
COPY_LOCK = 0x636F7079
LOCK_SOURCE = "SELECT pg_try_advisory_lock_shared(%(lock)s)"
LOCK_TARGET = "SELECT pg_try_advisory_lock(%(lock)s)"

# By what came last of all that is copied.
HAS_SCHEMA = "SELECT to_regclass('reaction.adopted_head') IS NOT NULL"
HAS_EVENTS = "SELECT EXISTS (SELECT FROM event)"
TAKE_NAME = "UPDATE log_identity SET id = %(id)s"
IS_CLOSED = "SELECT is_log_closed()"
CLOSE = "SELECT close_log()"


@contextmanager
def open_ends(
    source_url: str, target_url: str
) -> Iterator[tuple[Connection[Any], Connection[Any]]]:
    """Source and target, for one that copies at a time.

    Raises:
        CopyError: they are one database, somebody else is copying, or a schema is too old.
    """
    with (
        connect(source_url, "log copy", options=OPTIONS) as source,
        connect(target_url, "log copy", options=OPTIONS) as target,
    ):
        for end, lock, name in ((source, LOCK_SOURCE, "log"), (target, LOCK_TARGET, "target")):
            if not _says(end, HAS_SCHEMA):
                raise CopyError(f"the {name} has an older schema, or none: orderly migrate")
            if not _says(end, lock, lock=COPY_LOCK):
                raise CopyError("the target is the log itself, or another copy is running")
        yield source, target


def _says(end: Connection[Any], question: str, **parameters: int) -> bool:
    return end.execute(question.encode(), parameters).fetchone() == (True,)


def is_closed(end: Connection[Any]) -> bool:
    """Whether nobody but its owner may add to a log."""
    return _says(end, IS_CLOSED)


def prepare_target(source: Connection[Any], target: Connection[Any]) -> bool:
    """Make sure that the target is a part of the source's log; an empty one becomes one.

    Returns:
        Whether there is something to copy: else it was finished, and may have grown by itself.

    Raises:
        CopyError: it is another log, or has other partitions.
    """
    wanted, found = read_heads(source), read_heads(target)
    if wanted.keys() != found.keys():
        raise CopyError(
            f"PARTITIONS: the log has {len(wanted)} and the target has {len(found)}; positions"
            " would change, and with them tokens, checkpoints, and what subscribers have noted"
        )
    if not any(found.values()) and not _says(target, HAS_EVENTS):
        _begin(source, target)
        return True
    if read_log_id(source) != read_log_id(target):
        raise CopyError("the target is not empty, and holds another log")
    if not is_closed(target):
        return False
    _check_ends(source, target, found)
    return True


def _begin(source: Connection[Any], target: Connection[Any]) -> None:
    with target.transaction():
        target.execute(TAKE_NAME, {"id": read_log_id(source)})
        # A relay that is pointed at half a copy must not take all of it for new.
        replace_table(source, target, "relay_checkpoint")
        target.execute(CLOSE)


def _check_ends(source: Connection[Any], target: Connection[Any], heads: Mapping[int, int]) -> None:
    """The last event of each partition is the one that the source has at its position."""
    for partition, position in heads.items():
        key = {"partition": partition, "position": position}
        events = [end.execute(READ_EVENT_ID, key).fetchone() for end in (source, target)]
        if events[0] != events[1]:
            raise CopyError(f"the log holds another event at {partition}:{position}, or none")
