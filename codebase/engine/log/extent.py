"""Positions, and the log that they are of: those of another log say nothing about this one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from psycopg import AsyncConnection, Connection

READ_EXTENT = """
    SELECT (SELECT id FROM log_identity), partition, position FROM log_head
"""
READ_LOG_ID = "SELECT id FROM log_identity"


@dataclass(frozen=True, slots=True)
class Extent:
    """A stretch of a log from its beginning: what is there, what was projected, or what was seen.

    Args:
        log_id: which log it is; None where nobody has said so.
        positions: the last position, for each partition.
    """

    log_id: str | None = None
    positions: Mapping[int, int] = field(default_factory=dict)

    def position(self, log_id: str | None, partition: int) -> int:
        """How far it goes in a partition of that log: 0 at the beginning, -1 in another log.

        Where nobody has said which log this is, it is taken for that one.
        """
        if self.log_id is not None and self.log_id != log_id:
            return -1
        return self.positions.get(partition, 0)

    def holds(self, seen: Extent) -> bool:
        """Whether everything of `seen` is in here."""
        return all(
            self.position(seen.log_id, partition) >= position
            for partition, position in seen.positions.items()
        )

    def own(self, seen: Extent) -> dict[int, int]:
        """What of `seen` is in the log that ends here.

        Nothing of another log's or of one that is not named, and no position beyond the end.
        """
        if seen.log_id is None or seen.log_id != self.log_id:
            return {}
        return {
            partition: position
            for partition, position in seen.positions.items()
            if position <= self.positions.get(partition, -1)
        }


async def read_extent(log: AsyncConnection[Any]) -> Extent:
    """The whole log, as it is now; without partitions when it has not been made yet."""
    cursor = await log.execute(READ_EXTENT, prepare=True)
    rows = await cursor.fetchall()
    log_id = rows[0][0] if rows else None
    return Extent(log_id, {partition: position for _, partition, position in rows})


def read_log_id(log: Connection[Any]) -> str:
    """Which log it is."""
    row = log.execute(READ_LOG_ID).fetchone()
    assert row is not None, "a migration names the log"  # noqa: S101 - an invariant
    return str(row[0])
