"""Logs that tests say everything of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from codebase.engine.log.extent import Extent

if TYPE_CHECKING:
    from tests.databases import Databases

OURS, ANOTHER = "0123456789ab", "ba9876543210"

END_LOG = """
    INSERT INTO event (partition, position, stream_id, category, version, type, data, meta,
                       recorded_at)
    VALUES (%s, %s, gen_random_uuid(), 'test', 1, 'Tested', '{}', '{}', now())
"""


@dataclass
class KnownLog:
    """A log of which everything is known, for tokens to be judged by."""

    extent: Extent
    asked: list[Extent] = field(default_factory=list)

    async def extent_for(self, seen: Extent) -> Extent:
        self.asked.append(seen)
        return self.extent


def of_ours(positions: Mapping[int, int]) -> KnownLog:
    return KnownLog(Extent(OURS, positions))


def end_log_at(databases: Databases, position: int, partition: int = 0) -> None:
    """Let a log end there that ended before; it lacks what is between."""
    with databases.as_owner() as owner:
        owner.execute(END_LOG, [partition, position])


def name_log(databases: Databases, log_id: str) -> None:
    """Test databases are copies of one, so that they have one name until this is called."""
    with databases.as_owner() as owner:
        owner.execute("UPDATE log_identity SET id = %s", [log_id])
