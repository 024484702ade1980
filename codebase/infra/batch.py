"""One round of group commit: what a batch of commands would write, decided in memory.

Nothing here waits for anything. The command bus reads what a round needs, asks the round for its
events, appends them, and tells the round what became of them; the round answers the commands.
"""

from __future__ import annotations

from asyncio import Future
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic_core import to_json

from codebase.infra.event_log import (
    Appended,
    NewEvent,
    RecordedEvent,
    Refusal,
    UnknownEventError,
    decode,
    encode,
    new_event_id,
    partition_of,
)
from codebase.infra.problems import ServiceUnavailable
from codebase.model.aggregate import Aggregate
from codebase.model.refusals import KeyReused, Rejected

SCHEMA_VERSION = 1


# The classes here are not frozen, though never changed: a frozen dataclass takes four times as long
# to make, and several are made for every command.
@dataclass(kw_only=True, slots=True)
class Submission:
    """A command on its way to its stream.

    Args:
        aggregate: whose rules decide.
        stream_id: the one stream that the command may write to.
        command: as `aggregate.decide` takes it.
        idempotence_key: None when the command may take effect each time it is sent.
        fingerprint: of what the client asked for, to tell a repeat from a reused key.
        actor: the authenticated client.
        command_id: of this attempt; the events of one command share it as `causation_id`.
        traceparent: W3C trace context, if the caller sent one.
        creates: the stream should not exist yet, so that it is not read before it is written.
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

    `position` is that version's place in `partition`; `recorded_at` its time, in UTC.
    """

    state: Any
    stream_id: UUID
    version: int
    partition: int
    position: int
    recorded_at: datetime
    replayed: bool


@dataclass(slots=True, eq=False)
class Pending:
    """A submission, and whoever waits for its outcome."""

    submission: Submission
    outcome: Future[Outcome]

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
    """What is known of a stream; `read` is False while it is only assumed to be empty."""

    entries: list[Entry]
    read: bool
    unreadable: UnknownEventError | None = None

    def version_of(self, submission: Submission) -> int | None:
        """The version that an earlier sending of this command produced, if there was one.

        Raises:
            KeyReused: the key stands for something else.
        """
        key = submission.idempotence_key
        if key is None:
            return None
        for index, entry in enumerate(self.entries):
            if entry.idempotence_key == key:
                if entry.fingerprint != submission.fingerprint:
                    raise KeyReused("this idempotence key already stands for another command")
                return self._last_of_command(index)
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


def history_of(recorded: Iterable[RecordedEvent]) -> History:
    """The history that the log tells; one that cannot be read concerns its own commands only."""
    try:
        entries = [
            Entry(
                event=decode(row),
                idempotence_key=row.idempotence_key,
                fingerprint=row.meta.get("fingerprint"),
                command_id=row.meta.get("causation_id"),
                position=row.position,
                recorded_at=row.recorded_at,
            )
            for row in recorded
        ]
    except UnknownEventError as error:
        return History([], read=True, unreadable=error)
    return History(entries, read=True)


@dataclass(slots=True)
class Unit:
    """What a round does in one stream: written whole, or not at all."""

    number: int
    partition: int
    history: History
    new_events: list[NewEvent] = field(default_factory=list)
    writers: list[Pending] = field(default_factory=list)
    answers: list[tuple[Pending, int, bool]] = field(default_factory=list)
    refusals: list[tuple[Pending, Exception]] = field(default_factory=list)
    deferred: list[Pending] = field(default_factory=list)

    def decide(self, pending: Pending) -> None:
        """Let one command decide on the stream as it is, with the unit's own events in it.

        One command's refusal, conflict or bug must never fail a neighbour's, so that whatever a
        rule raises is the answer to this one command, and to no other.
        """
        try:
            self._decide(pending)
        except Exception as error:  # noqa: BLE001 - the boundary between neighbours
            self.refusals.append((pending, error))

    def _decide(self, pending: Pending) -> None:
        submission, history = pending.submission, self.history
        if history.unreadable:
            raise history.unreadable
        version = history.version_of(submission)
        if version is not None:
            self.answers.append((pending, version, True))
            return
        aggregate = submission.aggregate
        state = aggregate.fold([entry.event for entry in history.entries])
        events = aggregate.decide(submission.command, state)
        if events:
            self._plan(submission, events)
            self.writers.append(pending)
        if not history.entries:
            raise AssertionError("a command on an empty stream neither wrote nor was refused")
        self.answers.append((pending, len(history.entries), False))

    def _plan(self, submission: Submission, events: Sequence[Any]) -> None:
        version = len(self.history.entries)
        planned = [
            _new_event(self, submission, event, version + nth)
            for nth, event in enumerate(events, start=1)
        ]
        self.new_events += planned
        self.history.entries += [
            Entry(
                event=event,
                idempotence_key=new.idempotence_key,
                fingerprint=submission.fingerprint if new.idempotence_key else None,
                command_id=submission.command_id,
            )
            for event, new in zip(events, planned, strict=True)
        ]

    def place(self, places: Sequence[tuple[int, datetime]]) -> None:
        """Note where in the log the unit's events are, and since when."""
        entries = self.history.entries[len(self.history.entries) - len(places) :]
        for entry, (position, recorded_at) in zip(entries, places, strict=True):
            entry.position, entry.recorded_at = position, recorded_at

    def settle(self) -> Iterator[Pending]:
        """Answer everyone, now that the unit stands in the log; yields who has to go again."""
        for pending, version, replayed in self.answers:
            try:
                pending.answer(self._outcome(pending.submission, version, replayed=replayed))
            except Exception as bug:  # noqa: BLE001 - the boundary between neighbours
                pending.refuse(bug)
        if self.history.read or self.new_events:
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
        yield from (pending for pending, _, _ in self.answers)
        yield from (pending for pending, _ in self.refusals)
        yield from self.deferred

    def _outcome(self, submission: Submission, version: int, *, replayed: bool) -> Outcome:
        entries = self.history.entries[:version]
        recorded_at = entries[-1].recorded_at
        assert recorded_at is not None, "only what stands in the log is answered"  # noqa: S101
        return Outcome(
            state=submission.aggregate.fold([entry.event for entry in entries]),
            stream_id=submission.stream_id,
            version=version,
            partition=self.partition,
            position=entries[-1].position,
            recorded_at=recorded_at,
            replayed=replayed,
        )


def _refusal_of(submission: Submission, refusal: Refusal) -> Rejected:
    return submission.aggregate.refusal(refusal.guard or "", refusal.detail or "")


def _new_event(unit: Unit, submission: Submission, event: Any, version: int) -> NewEvent:  # noqa: ANN401
    first = version == len(unit.history.entries) + 1
    aggregate = submission.aggregate
    meta = {
        "event_id": new_event_id(),
        "correlation_id": submission.command_id,
        "causation_id": submission.command_id,
        "actor": submission.actor,
        "schema": SCHEMA_VERSION,
        "topic": aggregate.topic(event),
    }
    if first:
        meta["fingerprint"] = submission.fingerprint
    if submission.traceparent:
        meta["traceparent"] = submission.traceparent
    return NewEvent(
        unit=unit.number,
        partition=unit.partition,
        stream_id=submission.stream_id,
        category=aggregate.category,
        version=version,
        type=type(event).__name__,
        idempotence_key=submission.idempotence_key if first else None,
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
    """Units for a batch of commands, one unit per stream.

    Args:
        work: in the order of arrival.
        histories: every stream that was read; the others are assumed to be empty.
        partitions: how many the log has.
        one_each: streams in which only the first command may go this time.
    """

    def __init__(
        self,
        work: Iterable[Pending],
        histories: dict[UUID, History],
        partitions: int,
        one_each: set[UUID] | None = None,
    ) -> None:
        self._units: dict[UUID, Unit] = {}
        one_each = one_each or set()
        for pending in work:
            stream_id = pending.submission.stream_id
            unit = self._units.get(stream_id)
            if unit is None:
                unit = self._units[stream_id] = Unit(
                    number=len(self._units),
                    partition=partition_of(stream_id, partitions),
                    history=histories.get(stream_id) or History([], read=False),
                )
            elif stream_id in one_each:
                unit.deferred.append(pending)
                continue
            unit.decide(pending)

    @property
    def new_events(self) -> list[NewEvent]:
        """Everything that the round wants to append."""
        return [event for unit in self._units.values() for event in unit.new_events]

    def everyone(self) -> list[Pending]:
        """All commands of the round."""
        return [pending for unit in self._units.values() for pending in unit.everyone()]

    def settle(self, appended: Appended) -> Again:
        """Answer every command that can be answered; the others go again."""
        placed: dict[int, list[tuple[int, datetime]]] = {}
        for event, position, recorded_at in appended.recorded:
            placed.setdefault(event.unit, []).append((position, recorded_at))
        again = Again()
        for stream_id, unit in self._units.items():
            refusal = appended.refused.get(unit.number)
            if refusal is None:
                unit.place(placed.get(unit.number, []))
                again.work += unit.settle()
                continue
            again.work += unit.retreat(refusal)
            if unit.is_contested(refusal):
                again.one_each.add(stream_id)
        return again
