"""No two events have one id: whoever follows the log would take the second for the first.

No index finds ids. A statement about all of them would hold a snapshot for as long as it takes to
sort them, so they go to a temporary file, 30 bytes for each event.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from uuid import UUID

from codebase.engine.log.events import RecordedEvent
from codebase.operations.verify.findings import Findings
from codebase.operations.verify.streams import is_event_id

CREATE_TABLE = "CREATE TABLE event_id (id BLOB, partition INTEGER, position INTEGER)"
INSERT = "INSERT INTO event_id VALUES (?, ?, ?)"
FIND_REPEATED = """
    SELECT id, group_concat(partition || ':' || position, ', ') FROM (
        SELECT id, partition, position, row_number() OVER same AS nth, count(*) OVER (
            PARTITION BY id
        ) AS events
        FROM event_id
        WINDOW same AS (PARTITION BY id ORDER BY partition, position)
    )
    WHERE events > 1 AND nth <= 10
    GROUP BY id
    ORDER BY min(partition), min(position)
    LIMIT 20
"""


class EventIds:
    """Collects the ids of all events, and finds those that come twice.

    Args:
        file: an empty one.
    """

    def __init__(self, file: sqlite3.Connection) -> None:
        self._file = file
        file.execute(CREATE_TABLE)

    def add(self, recorded: Sequence[RecordedEvent]) -> None:
        """The events of one more stream; an id of another form is found elsewhere."""
        ids = ((event, event.meta.get("event_id")) for event in recorded)
        self._file.executemany(
            INSERT,
            [
                (UUID(event_id).bytes, event.partition, event.position)
                for event, event_id in ids
                if is_event_id(event_id)
            ],
        )

    def end(self, findings: Findings) -> None:
        """Compare, now that every stream has been gone through."""
        for event_id, places in self._file.execute(FIND_REPEATED):
            findings.add(f"log: the events at {places} have one id, {UUID(bytes=event_id)}")
