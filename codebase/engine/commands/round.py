"""One round of group commit: what a batch of commands would write, decided in memory.

Nothing here waits for anything. The command bus reads what a round needs, asks the round for its
events, appends them, and tells the round what became of them; the round answers the commands.
"""

from __future__ import annotations

from asyncio import Future
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic_core import to_json

from codebase.engine.log.appending import Appended, Refusal
from codebase.engine.log.codec import UnknownEventError, decode, encode
from codebase.engine.log.events import SCHEMA_VERSION, NewEvent, RecordedEvent
from codebase.engine.log.identifiers import new_event_id, partition_of
from codebase.engine.log.notes import Note
from codebase.foundation.errors import ServiceUnavailable
from codebase.model.aggregate import Aggregate
from codebase.model.refusals import KeyReused, Rejected


@dataclass(frozen=True, slots=True)
class Given:
    """A stream that a command's rules need to know, though the command does not write to it.

    What must not change meanwhile is secured by a guard, such as `Require`.
    """

    aggregate: Aggregate[Any, Any, Any]
    stream_id: UUID


@dataclass(frozen=True, slots=True)
class Along:
    """The streams that take part in a command: all those that hold a claim of `kind`.

    Each of them decides `command` by the rules of `aggregate`, if the first stream decided to do
    anything. All of it is written, or nothing. `Vacate(kind)` makes sure that nobody is left out.
    """

    kind: str
    aggregate: Aggregate[Any, Any, Any]
    command: Any


# The classes here are not frozen, though never changed: a frozen dataclass takes four times as long
# to make, and several are made for every command.
@dataclass(kw_only=True, slots=True)
class Submission:
    """A command on its way to its stream.

    Args:
        aggregate: whose rules decide.
        stream_id: the stream that the command may write to.
        command: as `aggregate.decide` takes it; with `given`, a function from that stream's state
            (None before its first event) to it.
        idempotence_key: None when the command may take effect each time it is sent.
        fingerprint: of what the client asked for, to tell a repeat from a reused key.
        actor: the authenticated client.
        command_id: of this attempt; the events of one command share it as `causation_id`.
        traceparent: W3C trace context, if the caller sent one.
        creates: the stream should not exist yet, so that it is not read before it is written.
        given: another stream whose state the rules need.
        along: further streams that take part.
    """

    aggregate: Aggregate[Any, Any, Any]
    stream_id: UUID
    command: Any
    idempotence_key: str | None
    fingerprint: str
    actor: str
    command_id: str
    traceparent: str | None = None
    creates: bool = False
    given: Given | None = None
    along: Along | None = None

    def repeats(self, other: Submission) -> bool:
        """Whether this is the same command as `other`, sent once more."""
        return self is other or (
            self.idempotence_key is not None
            and self.idempotence_key == other.idempotence_key
            and self.fingerprint == other.fingerprint
        )


@dataclass(kw_only=True, slots=True)
class Outcome:
    """What a command led to: the state as of the version that it produced, now or long ago.

    Args:
        state: of the stream; None when there is nothing in it.
        stream_id: the command's stream.
        version: of the stream, 0 when there is nothing in it.
        positions: partition -> the position to have seen everything that the command did. For a
            repeat, of its own stream only, not of those that went along.
        recorded_at: the time of that version, in UTC; None when there is nothing in the stream.
        replayed: whether this answers a repeat.
        changed: whether the command had anything to do.
    """

    state: Any
    stream_id: UUID
    version: int
    positions: Mapping[int, int]
    recorded_at: datetime | None
    replayed: bool
    changed: bool


@dataclass(slots=True, eq=False)
class Pending:
    """A submission, and whoever waits for its outcome."""

    submission: Submission
    outcome: Future[Outcome]
    attempts: int = 0
    """How often it was decided without coming to an end."""

    def refuse(self, error: Exception) -> None:
        """Answer with an error, unless the caller has stopped waiting."""
        if not self.outcome.done():
            self.outcome.set_exception(error)

    def expire(self) -> None:
        """The deadline has passed; what becomes of the command is uncertain to its sender."""
        self.refuse(ServiceUnavailable("write_model", "no answer in time"))

    def answer(self, outcome: Outcome) -> None:
        """Answer with the outcome, unless the caller has stopped waiting."""
        if not self.outcome.done():
            self.outcome.set_result(outcome)


@dataclass(slots=True)
class Entry:
    """One event of a stream: read from the log, or planned and then placed in it."""

    event: Any
    idempotence_key: str | None
    fingerprint: str | None
    command_id: str | None
    position: int = 0
    recorded_at: datetime | None = None


@dataclass(slots=True)
class History:
    """What is known of a stream; `read` is False while it is only assumed to be empty.

    `notes` holds the commands that had nothing to do, by key: fingerprint and version at the time.
    """

    entries: list[Entry]
    read: bool
    category: str | None = None
    """Of the stored events; None when there are none."""
    unreadable: UnknownEventError | None = None
    notes: dict[str, tuple[str, int]] = field(default_factory=dict)

    def earlier(self, submission: Submission) -> tuple[int, bool] | None:
        """What an earlier sending of this command led to: the version, and whether by its doing.

        Raises:
            KeyReused: the key stands for something else.
        """
        key = submission.idempotence_key
        if key is None:
            return None
        if key in self.notes:
            fingerprint, version = self.notes[key]
            _refuse_another(fingerprint, submission)
            return version, False
        for index, entry in enumerate(self.entries):
            if entry.idempotence_key == key:
                _refuse_another(entry.fingerprint, submission)
                return self._last_of_command(index), True
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


def _refuse_another(fingerprint: str | None, submission: Submission) -> None:
    if fingerprint != submission.fingerprint:
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
                idempotence_key=row.idempotence_key,
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


@dataclass(slots=True)
class Verdict:
    """The answer to one command, as soon as its unit stands in the log."""

    pending: Pending
    stream: Stream
    version: int
    replayed: bool
    changed: bool
    along: Sequence[Stream] = ()

    def outcome(self) -> Outcome:
        """What the sender is told."""
        stream, last = self.stream, None
        if self.version:
            last = stream.history.entries[self.version - 1]
        positions = {stream.partition: last.position} if last else {}
        for other in self.along:
            position = other.history.entries[-1].position
            positions[other.partition] = max(position, positions.get(other.partition, 0))
        return Outcome(
            state=stream.state(self.pending.submission.aggregate, self.version),
            stream_id=stream.stream_id,
            version=self.version,
            positions=positions,
            recorded_at=last.recorded_at if last else None,
            replayed=self.replayed,
            changed=self.changed,
        )


@dataclass(slots=True)
class Unit:
    """What a round does in one stream, or in several together: written whole, or not at all."""

    number: int
    planned: list[tuple[NewEvent, Entry]] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    writers: list[Pending] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    refusals: list[tuple[Pending, Exception]] = field(default_factory=list)
    deferred: list[Pending] = field(default_factory=list)
    assumes: bool = False
    """Whether a stream was assumed to be empty without having been read."""

    def decide(
        self, pending: Pending, stream: Stream, given: Stream | None, along: Sequence[Stream]
    ) -> None:
        """Let one command decide on its stream as it is, with the unit's own events in it.

        One command's refusal, conflict or bug must never fail a neighbour's, so that whatever a
        rule raises is the answer to this one command, and to no other.
        """
        self.assumes = self.assumes or not stream.history.read
        try:
            self.verdicts.append(self._decide(pending, stream, given, along))
        except Exception as error:  # noqa: BLE001 - the boundary between neighbours
            self.refusals.append((pending, error))

    def _decide(
        self, pending: Pending, stream: Stream, given: Stream | None, along: Sequence[Stream]
    ) -> Verdict:
        submission, history = pending.submission, stream.history
        aggregate = submission.aggregate
        if not stream.may_be(aggregate):
            return _decided_elsewhere(pending, stream, given)
        state = stream.state(aggregate)
        earlier = history.earlier(submission)
        if earlier is not None:
            version, changed = earlier
            return Verdict(pending, stream, version, replayed=True, changed=changed)
        events = aggregate.decide(_command(submission, given), state)
        if not events:
            self._note(submission, stream)
            version = len(history.entries)
            return Verdict(pending, stream, version, replayed=False, changed=False)
        others = _decided_along(submission.along, along)
        self._plan(submission, aggregate, stream, events)
        for other_aggregate, other, other_events in others:
            self._plan(submission, other_aggregate, other, other_events)
        self.writers.append(pending)
        return Verdict(
            pending,
            stream,
            len(history.entries),
            replayed=False,
            changed=True,
            along=[other for _, other, _ in others],
        )

    def _note(self, submission: Submission, stream: Stream) -> None:
        """Remember a command that has nothing to do, so that a late repeat does nothing either."""
        if not stream.history.read:
            raise AssertionError("a command on an empty stream neither wrote nor was refused")
        key = submission.idempotence_key
        if key is not None:
            version = len(stream.history.entries)
            stream.history.notes[key] = submission.fingerprint, version
            self.notes.append(
                Note(
                    partition=stream.partition,
                    stream_id=stream.stream_id,
                    idempotence_key=key,
                    fingerprint=submission.fingerprint,
                    version=version,
                )
            )

    def _plan(
        self,
        submission: Submission,
        aggregate: Aggregate[Any, Any, Any],
        stream: Stream,
        events: Sequence[Any],
    ) -> None:
        # The key belongs to the command's own stream, where a repeat looks for it.
        key = submission.idempotence_key if stream.stream_id == submission.stream_id else None
        for event in events:
            new = _new_event(
                event, submission, unit=self.number, aggregate=aggregate, stream=stream, key=key
            )
            entry = Entry(
                event=event,
                idempotence_key=key,
                fingerprint=submission.fingerprint if key else None,
                command_id=submission.command_id,
            )
            stream.history.entries.append(entry)
            self.planned.append((new, entry))
            key = None

    def place(self, places: Sequence[tuple[int, datetime]]) -> None:
        """Note where in the log the unit's events are, and since when."""
        for (_, entry), (position, recorded_at) in zip(self.planned, places, strict=True):
            entry.position, entry.recorded_at = position, recorded_at

    def settle(self) -> Iterator[Pending]:
        """Answer everyone, now that the unit stands in the log; yields who has to go again."""
        for verdict in self.verdicts:
            try:
                verdict.pending.answer(verdict.outcome())
            except Exception as bug:  # noqa: BLE001 - the boundary between neighbours
                verdict.pending.refuse(bug)
        if self.planned or not self.assumes:
            for pending, error in self.refusals:
                pending.refuse(error)
        else:
            # Refused on the assumption that the stream is empty: look before saying no.
            yield from (pending for pending, _ in self.refusals)
        yield from self.deferred

    def retreat(self, refusal: Refusal) -> Iterator[Pending]:
        """Nothing of the unit was written; yields who has to go again, on fresh state."""
        sender = self.writers[0].submission
        if not refusal.by_guard or len(self.writers) > 1:
            yield from self.everyone()
            return
        for pending in self.everyone():
            if pending.submission.repeats(sender):
                pending.refuse(_refusal_of(sender, refusal))
            else:
                yield pending

    def is_contested(self, refusal: Refusal) -> bool:
        """Whether it is open which of several writing commands the refusal is about."""
        return refusal.by_guard and len(self.writers) > 1

    def everyone(self) -> Iterator[Pending]:
        """All commands of the unit."""
        yield from (verdict.pending for verdict in self.verdicts)
        yield from (pending for pending, _ in self.refusals)
        yield from self.deferred


def _decided_elsewhere(pending: Pending, stream: Stream, given: Stream | None) -> Verdict:
    """The id is that of something else: to these rules there is nothing here, and never will be."""
    submission = pending.submission
    if submission.aggregate.decide(_command(submission, given), None):
        raise AssertionError("a stream holds the events of one aggregate")
    return Verdict(pending, stream, version=0, replayed=False, changed=False)


def _command(submission: Submission, given: Stream | None) -> Any:  # noqa: ANN401 - as `decide` takes it
    if submission.given is None or given is None:
        return submission.command
    # As it stands in the log: what this round adds to it may yet be refused.
    return submission.command(given.state(submission.given.aggregate, given.stored))


def _decided_along(
    along: Along | None, streams: Sequence[Stream]
) -> list[tuple[Aggregate[Any, Any, Any], Stream, list[Any]]]:
    """What each stream that takes part does; one that does nothing is left out."""
    if along is None:
        return []
    aggregate, command = along.aggregate, along.command
    decided = (
        (aggregate, stream, aggregate.decide(command, stream.state(aggregate)))
        for stream in streams
    )
    return [one for one in decided if one[2]]


def _refusal_of(submission: Submission, refusal: Refusal) -> Rejected:
    return submission.aggregate.refusal(refusal.guard or "", refusal.detail or "")


def _new_event(
    event: Any,  # noqa: ANN401 - of the aggregate
    submission: Submission,
    *,
    unit: int,
    aggregate: Aggregate[Any, Any, Any],
    stream: Stream,
    key: str | None,
) -> NewEvent:
    meta = {
        "event_id": new_event_id(),
        "correlation_id": submission.command_id,
        "causation_id": submission.command_id,
        "actor": submission.actor,
        "schema": SCHEMA_VERSION,
        "topic": aggregate.topic(event),
    }
    if key:
        meta["fingerprint"] = submission.fingerprint
    if submission.traceparent:
        meta["traceparent"] = submission.traceparent
    return NewEvent(
        unit=unit,
        partition=stream.partition,
        stream_id=stream.stream_id,
        category=aggregate.category,
        version=len(stream.history.entries) + 1,
        type=type(event).__name__,
        idempotence_key=key,
        data=encode(event),
        meta=to_json(meta).decode(),
        guards=aggregate.guards(event),
    )


@dataclass(slots=True)
class Again:
    """What the next round has to do.

    Args:
        work: the commands to decide again, their streams read first.
        one_each: the streams in which only the first command may go, because together their
            commands were refused and some of them may be innocent.
    """

    work: list[Pending] = field(default_factory=list)
    one_each: set[UUID] = field(default_factory=set)


class Round:
    """Units for a batch of commands: one per stream, or one for streams that act together.

    Args:
        work: in the order of arrival.
        histories: every stream that was read; the others are assumed to be empty.
        partitions: how many the log has.
        one_each: streams in which only the first command may go this time.
        holders: kind -> the streams that hold claims of that kind, of every kind that a command
            takes along.
    """

    def __init__(
        self,
        work: Iterable[Pending],
        histories: dict[UUID, History],
        partitions: int,
        one_each: set[UUID] | None = None,
        holders: Mapping[str, Sequence[UUID]] | None = None,
    ) -> None:
        self._histories = histories
        self._partitions = partitions
        self._streams: dict[UUID, Stream] = {}
        self._unit_of: dict[UUID, Unit] = {}
        self._units: list[Unit] = []
        self._later: list[Pending] = []
        holders = holders or {}
        one_each = one_each or set()
        for pending in work:
            along = pending.submission.along
            if along is None:
                self._take(pending, one_each)
            else:
                self._take_along(pending, holders.get(along.kind, ()))

    def _take(self, pending: Pending, one_each: set[UUID]) -> None:
        submission = pending.submission
        stream = self._stream(submission.stream_id)
        unit = self._unit_of.get(submission.stream_id)
        if unit is None:
            unit = self._unit_of[submission.stream_id] = self._new_unit()
        elif submission.stream_id in one_each:
            unit.deferred.append(pending)
            return
        given = self._stream(submission.given.stream_id) if submission.given else None
        unit.decide(pending, stream, given, ())

    def _take_along(self, pending: Pending, holders: Sequence[UUID]) -> None:
        """One unit for several streams, in a round in which nobody was there before."""
        submission = pending.submission
        together = [submission.stream_id, *holders]
        if any(stream_id in self._unit_of for stream_id in together):
            self._later.append(pending)
            return
        unit = self._new_unit()
        self._unit_of |= dict.fromkeys(together, unit)
        given = self._stream(submission.given.stream_id) if submission.given else None
        along = [self._stream(stream_id) for stream_id in holders]
        unit.decide(pending, self._stream(submission.stream_id), given, along)

    def _new_unit(self) -> Unit:
        unit = Unit(number=len(self._units))
        self._units.append(unit)
        return unit

    def _stream(self, stream_id: UUID) -> Stream:
        stream = self._streams.get(stream_id)
        if stream is None:
            history = self._histories.get(stream_id) or History([], read=False)
            partition = partition_of(stream_id, self._partitions)
            stored = len(history.entries)
            stream = self._streams[stream_id] = Stream(stream_id, partition, history, stored)
        return stream

    @property
    def new_events(self) -> list[NewEvent]:
        """Everything that the round wants to append."""
        return [event for unit in self._units for event, _ in unit.planned]

    def notes(self, appended: Appended) -> list[Note]:
        """The commands that had nothing to do, of the units that were not refused."""
        units = (unit for unit in self._units if unit.number not in appended.refused)
        return [note for unit in units for note in unit.notes]

    def everyone(self) -> list[Pending]:
        """All commands of the round."""
        return [*self._later, *(pending for unit in self._units for pending in unit.everyone())]

    def settle(self, appended: Appended) -> Again:
        """Answer every command that can be answered; the others go again."""
        placed: dict[int, list[tuple[int, datetime]]] = {}
        for event, position, recorded_at in appended.recorded:
            placed.setdefault(event.unit, []).append((position, recorded_at))
        # Those that found no room go first, so that they find it.
        again = Again(work=list(self._later))
        for unit in self._units:
            refusal = appended.refused.get(unit.number)
            if refusal is None:
                unit.place(placed.get(unit.number, []))
                again.work += unit.settle()
                continue
            again.work += unit.retreat(refusal)
            if unit.is_contested(refusal):
                again.one_each |= {pending.submission.stream_id for pending in unit.writers}
        return again
