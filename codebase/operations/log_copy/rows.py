"""Rows of the log on their way from one database to another, as they are."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from psycopg import Connection

from codebase.engine.log.reading import read_heads
from codebase.foundation.failpoints import failpoint
from codebase.operations.log_copy.errors import CopyError

# `data` and `meta` stay the texts that Postgres makes of them: what Python makes of a number may be
# another number.
READ_ROWS = """
    SELECT partition, position, stream_id, category, version, type, idempotence_key, data::text,
           meta::text, recorded_at
    FROM event
    WHERE partition = %(partition)s AND position > %(after)s AND position <= %(until)s
    ORDER BY position
    LIMIT %(limit)s
"""

LOCK_HEAD = "SELECT FROM log_partition WHERE partition = %(partition)s FOR UPDATE"
COPY_ROWS = """
    COPY event (partition, position, stream_id, category, version, type, idempotence_key, data,
                meta, recorded_at)
    FROM STDIN
"""
DIGEST = """
    SELECT count(*), md5(string_agg(
        ROW(position, stream_id, category, version, type, idempotence_key, data, meta,
            recorded_at)::text,
        '' ORDER BY position
    ))
    FROM event
    WHERE partition = %(partition)s AND position = ANY (%(positions)s)
"""


class Row(NamedTuple):
    """One event as the log holds it; `data` and `meta` are JSON texts."""

    partition: int
    position: int
    stream_id: UUID
    category: str
    version: int
    type: str
    idempotence_key: str | None
    data: str
    meta: str
    recorded_at: datetime

    @property
    def place(self) -> str:
        """Where it stands, as sentences name it."""
        return f"{self.partition}:{self.position}"


def read_rows(
    source: Connection[Any], partition: int, *, after: int, until: int, limit: int
) -> list[Row]:
    """At most `limit` rows of a partition at positions `after` + 1 to `until`, in order.

    Raises:
        CopyError: a position is missing.
    """
    wanted = {"partition": partition, "after": after, "until": until, "limit": limit}
    with source.cursor(binary=True) as cursor:
        rows = [Row._make(row) for row in cursor.execute(READ_ROWS, wanted, prepare=True)]
    if len(rows) != min(limit, until - after) or rows[-1].position - after != len(rows):
        raise CopyError(f"partition {partition} of the log lacks a position above {after}")
    return rows


def write_rows(
    source: Connection[Any], target: Connection[Any], rows: Sequence[Row], unchanged: Sequence[int]
) -> None:
    """Add rows of one partition to the target: all of them, or none.

    Args:
        source: compared with.
        target: ends where the rows begin.
        rows: in order, and at least one.
        unchanged: the positions of those that are in the source just so.

    Raises:
        CopyError: the target ends elsewhere, or what was written differs from the source.
    """
    first = rows[0]
    with target.transaction():
        target.execute(LOCK_HEAD, {"partition": first.partition})
        # A statement of its own: it sees what was committed while the lock was waited for.
        if read_heads(target).get(first.partition) != first.position - 1:
            raise CopyError(f"somebody else has written to partition {first.partition} there")
        with target.cursor() as cursor, cursor.copy(COPY_ROWS) as copy:
            for row in rows:
                copy.write_row(row)
        _compare(source, target, first.partition, unchanged)
        failpoint("log_copy_before_commit")
    failpoint("log_copy_after_commit")


def _compare(
    source: Connection[Any], target: Connection[Any], partition: int, positions: Sequence[int]
) -> None:
    key = {"partition": partition, "positions": list(positions)}
    digests = [each.execute(DIGEST, key).fetchone() for each in (source, target)]
    if digests[0] != digests[1]:
        raise CopyError(
            f"what arrives of {partition}:{positions[0]} to {partition}:{positions[-1]} is not what"
            " the log holds"
        )
