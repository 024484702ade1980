"""What is known of a stream while commands decide on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from codebase.engine.commands.fingerprint import Fingerprints
from codebase.engine.commands.milestones import Milestones
from codebase.engine.commands.submission import Submission
from codebase.engine.log.codec import decode
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
    event_id: str | None = None
    """Of an event that was read; it tells one log from another."""

    def stands_in(self, row: RecordedEvent) -> bool:
        """Whether this row of the log is the event that was read as this entry."""
        return (self.event_id, self.position, self.recorded_at) == (
            row.meta.get("event_id"),
            row.position,
            row.recorded_at,
        )


@dataclass(slots=True)
class History:
    """What is known of a stream; `read` is False while that is only assumed: see `Unit.settle`.

    Of a long stream only some entries and states are there: the first and the last, what came since
    it was read before, and whatever a repeat at hand is about. What is asked of it costs the same.
    """

    read: bool = True
    category: str | None = None
    """Of the stored events; None when there are none."""
    version: int = 0
    """Of the last event, stored or planned."""
    entries: dict[int, Entry] = field(default_factory=dict)
    """Version -> the event."""
    states: dict[int, Any] = field(default_factory=lambda: {0: None})
    """Version -> the state after it; that of the last stored event is always there."""
    keys: dict[tuple[str | None, str, bool], int] = field(default_factory=dict)
    """Client, key and whether it is the creation's -> the version of the command's first event."""
    notes: dict[tuple[str, str], tuple[str, int]] = field(default_factory=dict)
    """Client and key -> fingerprint and version, of commands that had nothing to do."""
    foreign: bool = False
    """Whether it is of a category that no command at hand is about; it is not read then."""
    unreadable: Exception | None = None
    """Why the events after `version` could not be decoded or folded."""
    milestones: Milestones | None = None
    """Of a long stream: where to begin when something old is asked for."""
    behind: bool = False
    """Whether it has been heard of a later version, so that nobody can decide on this one."""

    def add(self, entry: Entry) -> None:
        """The next event of the stream."""
        self.version += 1
        self.enter(self.version, entry)

    def enter(self, version: int, entry: Entry) -> None:
        """Know the event at `version`."""
        self.entries[version] = entry
        if entry.idempotence_key is not None:
            # A creation's key belongs to the category, any other command's to the stream.
            key = entry.client, entry.idempotence_key, entry.creates
            self.keys.setdefault(key, version)

    @property
    def is_open(self) -> bool:
        """Whether the events after `version` are of interest, and can be read."""
        return not self.foreign and self.unreadable is None

    def is_continued_by(self, rows: Sequence[RecordedEvent]) -> bool:
        """Whether rows from `version` on, which were read just now, begin with its last event."""
        if not self.version:
            return True
        return bool(rows) and self.entries[self.version].stands_in(rows[0])

    def shorten(self) -> Milestones:
        """Let go of what lies between the first event and the last, apart from milestones."""
        first, last = self.entries[1], self.entries[self.version]
        self.milestones = self.milestones or Milestones()
        self.milestones.pass_by(self.states)
        self.states = {0: None, self.version: self.states[self.version]}
        self.entries, self.keys = {}, {}
        self.enter(1, first)
        self.enter(self.version, last)
        return self.milestones

    def remember(self, past: History) -> None:
        """Know again what was read of an earlier part."""
        self.entries |= past.entries
        self.states |= past.states

    def hear_of(self, version: int) -> None:
        """A key or a note, which was read later, speaks of this version."""
        if version > self.version and self.is_open:
            self.behind = True

    def state(self, aggregate: Aggregate[Any, Any, Any], version: int) -> Any:  # noqa: ANN401
        """The state as of `version`; no event is folded twice."""
        states, known = self.states, version
        while known not in states:
            known -= 1
        state = states[known]
        while known < version:
            known += 1
            state = states[known] = aggregate.evolve(state, self.entries[known].event)
        return state

    def asked_of(self, submission: Submission) -> int | None:
        """The version that answers the submission if it is a repeat: a command begins there."""
        noted = self._note(submission)
        return noted[1] if noted else self._begun(submission)

    def tells(self, version: int) -> bool:
        """Whether the event at `version` is known, with all that followed of its command."""
        if version not in self.entries:
            return False
        last = self._last_of_command(version)
        return last == self.version or last + 1 in self.entries

    def earlier(
        self, submission: Submission, fingerprints: Fingerprints
    ) -> tuple[int, bool] | None:
        """What an earlier sending of this command led to: the version, and whether by its doing.

        Raises:
            KeyReused: the key stands for something else.
            ServiceUnavailable: that cannot be told, for want of a key to compare by.
        """
        noted = self.noted(submission, fingerprints)
        if noted is not None:
            return noted, False
        version = self._begun(submission)
        if version is None:
            return None
        _refuse_another(self.entries[version].fingerprint, submission, fingerprints)
        return self._last_of_command(version), True

    def noted(self, submission: Submission, fingerprints: Fingerprints) -> int | None:
        """The version of the stream when this command was found to have nothing to do.

        Raises:
            KeyReused: the key stands for something else.
            ServiceUnavailable: that cannot be told, for want of a key to compare by.
        """
        note = self._note(submission)
        if note is None:
            return None
        fingerprint, version = note
        _refuse_another(fingerprint, submission, fingerprints)
        return version

    def _note(self, submission: Submission) -> tuple[str, int] | None:
        key = submission.idempotence_key
        if key is None or submission.creates:
            return None
        own = self.notes.get((submission.actor.name, key))
        return own or self.notes.get((UNKNOWN_CLIENT, key))

    def _begun(self, submission: Submission) -> int | None:
        key = submission.idempotence_key
        if key is None:
            return None
        return self.keys.get((submission.actor.name, key, submission.creates))

    def _last_of_command(self, version: int) -> int:
        command_id = self.entries[version].command_id
        while (
            (after := self.entries.get(version + 1)) is not None
            and after.command_id == command_id
            and after.idempotence_key is None
        ):
            version += 1
        return version


def _refuse_another(
    fingerprint: str | None, submission: Submission, fingerprints: Fingerprints
) -> None:
    if not fingerprints.is_of(fingerprint, submission.content):
        raise KeyReused("this idempotence key already stands for another command")


def read_on(
    history: History,
    rows: Sequence[RecordedEvent],
    aggregates: Mapping[str, Aggregate[Any, Any, Any]],
) -> None:
    """Add the next events of a stream; one that cannot be read concerns its own commands only.

    Args:
        history: of the stream so far.
        rows: the events that follow, in order.
        aggregates: category -> its aggregate, of all that the commands at hand are about.
    """
    if not rows:
        return
    history.category = history.category or rows[0].category
    aggregate = aggregates.get(history.category)
    if aggregate is None:
        # Nobody asks what it holds, only whether it is of the category that was meant.
        history.foreign = True
        return
    try:
        for row in rows:
            state = history.states[history.version]
            entry = entry_of(row, aggregate)
            state = aggregate.evolve(state, entry.event)
            history.add(entry)
            history.states[history.version] = state
    except Exception as error:  # noqa: BLE001 - the boundary between neighbours
        history.unreadable = error


def entry_of(row: RecordedEvent, aggregate: Aggregate[Any, Any, Any]) -> Entry:
    """The entry that a row of the log stands for.

    Raises:
        UnknownEventError: as `decode`.
    """
    return Entry(
        event=decode(row, aggregate),
        client=row.meta.get("actor"),
        idempotence_key=row.idempotence_key,
        creates=is_creation(row),
        fingerprint=row.meta.get("fingerprint"),
        command_id=row.meta.get("causation_id"),
        position=row.position,
        recorded_at=row.recorded_at,
        event_id=row.meta.get("event_id"),
    )


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
    """The version of it that stands in the log."""

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
        return self.history.state(aggregate, self.history.version if version is None else version)
