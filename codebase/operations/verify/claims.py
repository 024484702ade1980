"""The claims that stand, read piece by piece: no snapshot lasts as long as all of them take.

They are read after the log's bounds, while others go on to claim and to release. So what seems to
differ is looked at again, stream and claim in one snapshot.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.rows import class_row

from codebase.engine.log.codec import UnknownEventError
from codebase.engine.log.events import RecordedEvent
from codebase.model.aggregate import Aggregate, Claim, Release
from codebase.operations.verify.claim_history import Held
from codebase.operations.verify.ranges import group_by_stream
from codebase.operations.verify.streams import decode_stream

CLAIMS_PER_STATEMENT = 10_000

READ_CLAIMS = """
    SELECT kind, value, stream_id::text FROM claim
    WHERE (kind, value) > (%(kind)s, %(value)s)
    ORDER BY kind, value
    LIMIT %(limit)s
"""

READ_SOME_CLAIMS = """
    SELECT kind, value, stream_id::text
    FROM unnest(%(kinds)s::text[], %(values)s::text[]) AS wanted (kind, value)
    JOIN claim USING (kind, value)
"""

READ_STREAMS = """
    SELECT partition, position, stream_id, category, version, type, idempotence_key, data, meta,
           recorded_at
    FROM event
    WHERE stream_id = ANY (%(streams)s)
    ORDER BY stream_id, version, partition
"""


def read_claims(log: Connection[Any]) -> Iterator[Held]:
    """Every claim, in no transaction that lasts longer than one statement."""
    last = Held("", "", "")
    while True:
        after = {"kind": last.kind, "value": last.value, "limit": CLAIMS_PER_STATEMENT}
        rows = log.execute(READ_CLAIMS, after).fetchall()
        if not rows:
            return
        for row in rows:
            yield (last := Held(*row))


class ClaimsNow:
    """What streams hold at the moment, by the log and by the table of claims.

    Args:
        log: with `open_store`.
        aggregates: category -> aggregate.
    """

    def __init__(
        self, log: Connection[Any], aggregates: Mapping[str, Aggregate[Any, Any, Any]]
    ) -> None:
        self._log = log
        self._aggregates = aggregates

    def of(self, suspects: Sequence[Held]) -> tuple[set[Held], set[Held]]:
        """What the events of the suspects' streams say, and which of the suspects' claims stand."""
        wanted = {
            "kinds": [one.kind for one in suspects],
            "values": [one.value for one in suspects],
            "streams": sorted({UUID(one.stream) for one in suspects}),
        }
        with self._log.transaction():
            standing = self._log.execute(READ_SOME_CLAIMS, wanted).fetchall()
            with self._log.cursor(row_factory=class_row(RecordedEvent)) as cursor:
                events = cursor.execute(READ_STREAMS, wanted).fetchall()
        streams = group_by_stream(events)
        claimed = {one for stream in streams for one in self._claimed(*stream)}
        return claimed, {Held(*row) for row in standing}

    def _claimed(self, stream_id: UUID, recorded: Sequence[RecordedEvent]) -> set[Held]:
        """Nothing is known of a stream that cannot be read."""
        held: set[Held] = set()
        try:
            stream = decode_stream(stream_id, recorded, self._aggregates)
        except UnknownEventError:
            return held
        for _, event in stream.events:
            for guard in stream.aggregate.guards(event):
                match guard:
                    case Claim(kind=kind, value=value):
                        held.add(Held(kind, value, str(stream_id)))
                    case Release(kind=kind, value=value):
                        held.discard(Held(kind, value, str(stream_id)))
        return held
