"""Notes of commands that had nothing to do agree with the streams that they are about."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.rows import class_row

from codebase.engine.commands.history import is_creation
from codebase.engine.log.events import RecordedEvent
from codebase.engine.log.identifiers import partition_of
from codebase.engine.log.notes import UNKNOWN_CLIENT, Note
from codebase.operations.verify.findings import Findings
from codebase.operations.verify.merge import Merge
from codebase.operations.verify.ranges import FETCH, Range
from codebase.operations.verify.streams import is_fingerprint, place

# The order of PRIMARY KEY (stream_id, idempotence_key, client, partition).
READ_NOTES_IN_ORDER = """
    SELECT partition, stream_id, client, idempotence_key, fingerprint, version
    FROM command_note
    WHERE stream_id BETWEEN %(first)s AND %(last)s
    ORDER BY stream_id, idempotence_key, client, partition
"""


class NoteCheck:
    """The notes of one range of streams.

    Args:
        log: in a transaction, the streams' snapshot.
        within: the range.
        partitions: how many the log has.
        findings: told what differs.
    """

    def __init__(
        self, log: Connection[Any], within: Range, partitions: int, findings: Findings
    ) -> None:
        self._partitions = partitions
        self._findings = findings
        self._notes = Merge(_read_notes(log, within), self._compare)

    def stream(self, stream_id: UUID, recorded: Sequence[RecordedEvent]) -> None:
        """The next stream, with all its events."""
        self._notes.expect(stream_id, recorded)

    def end(self) -> None:
        """There are no more streams in the range."""
        self._notes.end()

    def _compare(
        self,
        stream_id: UUID,
        notes: Sequence[Note] | None,
        recorded: Sequence[RecordedEvent] | None,
    ) -> None:
        if not notes:
            return
        done = _done(recorded or ())
        partition = partition_of(stream_id, self._partitions)
        for note in notes:
            for trouble in _troubles(note, len(recorded or ()), done, partition):
                self._findings.add(f"note: stream {stream_id} has one {trouble}")


def _read_notes(log: Connection[Any], within: Range) -> Iterator[tuple[UUID, list[Note]]]:
    with log.cursor("notes", row_factory=class_row(Note)) as cursor:
        cursor.itersize = FETCH
        cursor.execute(READ_NOTES_IN_ORDER, within.parameters)
        for stream_id, notes in groupby(cursor, key=attrgetter("stream_id")):
            yield stream_id, list(notes)


def _done(recorded: Sequence[RecordedEvent]) -> dict[tuple[str, str | None], RecordedEvent]:
    """Client and key -> what the command did; a creation's key belongs to the category."""
    later = [event for event in recorded if not is_creation(event)]
    # A note of which nobody knows whose it is may be anybody's.
    anybody = {(UNKNOWN_CLIENT, event.idempotence_key): event for event in later}
    return anybody | {
        (event.meta.get("actor", ""), event.idempotence_key): event for event in later
    }


def _troubles(
    note: Note,
    length: int,
    done: dict[tuple[str, str | None], RecordedEvent],
    partition: int,
) -> Iterator[str]:
    event = done.get((note.client, note.idempotence_key))
    if event is not None:
        yield f"of a command that did something, at {place(event)}"
    if note.version > length:
        yield f"about version {note.version}, of {length}"
    if note.partition != partition:
        yield f"in partition {note.partition}, where it is not found"
    if not is_fingerprint(note.fingerprint):
        yield "with a fingerprint of no known form"
