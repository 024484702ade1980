"""What is known of a stream while commands decide on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from codebase.engine.commands.fingerprint import Fingerprints
from codebase.engine.commands.submission import Submission
from codebase.engine.log.codec import UnknownEventError, decode
from codebase.engine.log.events import RecordedEvent
from codebase.engine.log.identifiers import creation_stream_id
from codebase.engine.log.notes import UNKNOWN_CLIENT
from codebase.model.aggregate import Aggregate
from codebase.model.refusals import KeyReused


@dataclass(slots=True)
class Entry:
    """One event of a stream: read from the log, or planned and then placed in it."""

    event: Any
    client: str | None
    """Who sent the command."""
    idempotence_key: str | None
    creates: bool
    """Whether the key is that of the creation of the stream."""
    fingerprint: str | None
    command_id: str | None
    position: int = 0
    recorded_at: datetime | None = None

    def has_key_of(self, submission: Submission) -> bool:
        """Whether its command was sent with the same key, by the same client, for the same thing.

        A creation's key belongs to the category, any other command's to the stream.
        """
        return (
            self.idempotence_key == submission.idempotence_key
            and self.client == submission.actor.name
            and self.creates == submission.creates
        )


@dataclass(slots=True)
class History:
    """What is known of a stream; `read` is False while it is only assumed to be empty.

    `notes` holds the commands that had nothing to do, by client and key: fingerprint and version
    at the time.
    """

    entries: list[Entry]
    read: bool
    category: str | None = None
    """Of the stored events; None when there are none."""
    unreadable: UnknownEventError | None = None
    notes: dict[tuple[str, str], tuple[str, int]] = field(default_factory=dict)

    def earlier(
        self, submission: Submission, fingerprints: Fingerprints
    ) -> tuple[int, bool] | None:
        """What an earlier sending of this command led to: the version, and whether by its doing.

        Raises:
            KeyReused: the key stands for something else.
            ServiceUnavailable: that cannot be told, for want of a key to compare by.
        """
        if submission.idempotence_key is None:
            return None
        noted = self.noted(submission, fingerprints)
        if noted is not None:
            return noted, False
        for index, entry in enumerate(self.entries):
            if entry.has_key_of(submission):
                _refuse_another(entry.fingerprint, submission, fingerprints)
                return self._last_of_command(index), True
        return None

    def noted(self, submission: Submission, fingerprints: Fingerprints) -> int | None:
        """The version of the stream when this command was found to have nothing to do.

        Raises:
            KeyReused: the key stands for something else.
            ServiceUnavailable: that cannot be told, for want of a key to compare by.
        """
        key = submission.idempotence_key
        if key is None or submission.creates:
            return None
        for client in (submission.actor.name, UNKNOWN_CLIENT):
            if (client, key) in self.notes:
                fingerprint, version = self.notes[client, key]
                _refuse_another(fingerprint, submission, fingerprints)
                return version
        return None

    def _last_of_command(self, index: int) -> int:
        command_id = self.entries[index].command_id
        while (
            index + 1 < len(self.entries)
            and self.entries[index + 1].command_id == command_id
            and self.entries[index + 1].idempotence_key is None
        ):
            index += 1
        return index + 1


def _refuse_another(
    fingerprint: str | None, submission: Submission, fingerprints: Fingerprints
) -> None:
    if not fingerprints.is_of(fingerprint, submission.content):
        raise KeyReused("this idempotence key already stands for another command")


def history_of(
    recorded: Sequence[RecordedEvent], aggregates: Mapping[str, Aggregate[Any, Any, Any]]
) -> History:
    """The history that the log tells; one that cannot be read concerns its own commands only.

    Args:
        recorded: every event of a stream, in order.
        aggregates: category -> its aggregate, of all that the commands at hand are about.
    """
    if not recorded:
        return History([], read=True)
    category = recorded[0].category
    aggregate = aggregates.get(category)
    if aggregate is None:
        # Nobody asks what it holds, only whether it is of the category that was meant.
        return History([], read=True, category=category)
    try:
        entries = [
            Entry(
                event=decode(row, aggregate),
                client=row.meta.get("actor"),
                idempotence_key=row.idempotence_key,
                creates=is_creation(row),
                fingerprint=row.meta.get("fingerprint"),
                command_id=row.meta.get("causation_id"),
                position=row.position,
                recorded_at=row.recorded_at,
            )
            for row in recorded
        ]
    except UnknownEventError as error:
        return History([], read=True, category=category, unreadable=error)
    return History(entries, read=True, category=category)


def is_creation(row: RecordedEvent) -> bool:
    """Whether a row's key is that of the creation of its stream, whose id then comes from it."""
    key = row.idempotence_key
    if key is None or row.version > 1:
        return False
    return row.stream_id == creation_stream_id(str(row.meta.get("actor")), row.category, key)


@dataclass(slots=True)
class Stream:
    """A stream, as one round knows it: what it holds, and what the round adds to that."""

    stream_id: UUID
    partition: int
    history: History
    stored: int
    """How many of its entries stand in the log."""

    def may_be(self, aggregate: Aggregate[Any, Any, Any]) -> bool:
        """Whether this is a stream of the aggregate's kind, as far as it holds anything."""
        return self.history.category in {None, aggregate.category}

    def state(self, aggregate: Aggregate[Any, Any, Any], version: int | None = None) -> Any:  # noqa: ANN401
        """The state as of `version`, by default the last one; None when it is of another kind.

        Raises:
            UnknownEventError: the stream cannot be read.
        """
        if not self.may_be(aggregate):
            return None
        if self.history.unreadable:
            raise self.history.unreadable
        return aggregate.fold([entry.event for entry in self.history.entries[:version]])
