"""A unit: what some commands do in one stream, or in several together; all of it or nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic_core import to_json

from codebase.engine.commands.fingerprint import Fingerprints
from codebase.engine.commands.fresh_streams import FreshStream
from codebase.engine.commands.history import Entry, Stream
from codebase.engine.commands.submission import Along, Outcome, Pending, Submission
from codebase.engine.log.appending import Refusal
from codebase.engine.log.codec import encode
from codebase.engine.log.events import SCHEMA_VERSION, NewEvent
from codebase.engine.log.identifiers import new_event_id
from codebase.engine.log.notes import Note
from codebase.foundation.errors import ServiceUnavailable
from codebase.model.aggregate import Aggregate
from codebase.model.refusals import KeyReused, Rejected


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
            last = stream.history.entries[self.version]
        positions = {stream.partition: last.position} if last else {}
        for other in self.along:
            position = other.history.entries[other.history.version].position
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
    fingerprints: Fingerprints
    planned: list[tuple[NewEvent, Entry]] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    writers: list[Pending] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    refusals: list[tuple[Pending, Exception]] = field(default_factory=list)
    deferred: list[Pending] = field(default_factory=list)
    answered: list[Verdict] = field(default_factory=list)
    """Those whose senders were told; of the others the state may be what cannot be made."""
    assumes: bool = False
    """Whether it is only assumed what a stream holds: it was not read."""

    def decide(
        self, pending: Pending, stream: Stream, given: Stream | None, along: Sequence[Stream]
    ) -> None:
        """Let one command decide on its stream as it is, with the unit's own events in it.

        One command's refusal, conflict or bug must never fail a neighbour's, so that whatever a
        rule raises is the answer to this one command, and to no other.
        """
        if stream.history.behind:
            self.deferred.append(pending)
            return
        self.assumes = self.assumes or not stream.history.read
        try:
            self.verdicts.append(self._decide(pending, stream, given, along))
        except (Rejected, ServiceUnavailable) as refusal:
            # It knows the frames that it came through: with this unit, which knows it, that would
            # be a circle, which only the collector takes apart. Of bugs the log tells them.
            self.refusals.append((pending, refusal.with_traceback(None)))
        except Exception as error:  # noqa: BLE001 - the boundary between neighbours
            self.refusals.append((pending, error))

    def _decide(
        self, pending: Pending, stream: Stream, given: Stream | None, along: Sequence[Stream]
    ) -> Verdict:
        submission, history = pending.submission, stream.history
        aggregate = submission.aggregate
        if not stream.may_be(aggregate):
            return self._decide_on_nothing(pending, stream, given)
        state = stream.state(aggregate)
        if not aggregate.is_within_reach(submission.actor, state):
            return self._decide_on_nothing(pending, stream, given)
        earlier = history.earlier(submission, self.fingerprints)
        if earlier is not None:
            version, changed = earlier
            return Verdict(pending, stream, version, replayed=True, changed=changed)
        events = aggregate.decide(_command(submission, given), state)
        if not events:
            version = history.version
            self._note(submission, stream, version)
            return Verdict(pending, stream, version, replayed=False, changed=False)
        others = _decided_along(submission.along, along)
        self._plan(submission, aggregate, stream, events)
        for other_aggregate, other, other_events in others:
            self._plan(submission, other_aggregate, other, other_events)
        self.writers.append(pending)
        return Verdict(
            pending,
            stream,
            history.version,
            replayed=False,
            changed=True,
            along=[other for _, other, _ in others],
        )

    def _decide_on_nothing(self, pending: Pending, stream: Stream, given: Stream | None) -> Verdict:
        """The id is that of something else, or of somebody else: there is nothing for this sender.

        It is answered as for an id that nothing has, also if it had a part in the stream once.
        """
        submission = pending.submission
        if submission.aggregate.decide(_command(submission, given), None):
            if submission.creates and stream.may_be(submission.aggregate):
                raise KeyReused("this idempotence key already stands for another command")
            raise AssertionError("a stream holds the events of one aggregate, by who reaches it")
        noted = stream.history.noted(submission, self.fingerprints)
        if noted is None:
            self._note(submission, stream, 0)
        return Verdict(pending, stream, version=0, replayed=noted is not None, changed=False)

    def _note(self, submission: Submission, stream: Stream, version: int) -> None:
        """Remember a command that has nothing to do, so that a late repeat does nothing either."""
        key = submission.idempotence_key
        if key is None:
            return
        if not stream.history.read:
            raise AssertionError("a command on an empty stream neither wrote nor was refused")
        client, fingerprint = submission.actor.name, self.fingerprints.of(submission.content)
        stream.history.notes[client, key] = fingerprint, version
        self.notes.append(
            Note(
                partition=stream.partition,
                stream_id=stream.stream_id,
                client=client,
                idempotence_key=key,
                fingerprint=fingerprint,
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
        fingerprint = self.fingerprints.of(submission.content) if key else None
        for event in events:
            entry = Entry(
                event=event,
                client=submission.actor.name,
                idempotence_key=key,
                creates=submission.creates,
                fingerprint=fingerprint,
                command_id=submission.command_id,
            )
            new = _new_event(
                entry, submission, unit=self.number, aggregate=aggregate, stream=stream
            )
            stream.history.add(entry)
            self.planned.append((new, entry))
            key = fingerprint = None

    def place(self, places: Sequence[tuple[int, datetime]]) -> None:
        """Note where in the log the unit's events are, and since when."""
        for (_, entry), (position, recorded_at) in zip(self.planned, places, strict=True):
            entry.position, entry.recorded_at = position, recorded_at

    def settle(self) -> Iterator[Pending]:
        """Answer everyone, now that the unit stands in the log; yields who has to go again."""
        if self.assumes and not self.planned:
            # Nobody wrote, so that nobody knows whether it was right: look before answering.
            yield from self.everyone()
            return
        for verdict in self.verdicts:
            try:
                verdict.pending.answer(verdict.outcome())
                self.answered.append(verdict)
            except Exception as bug:  # noqa: BLE001 - the boundary between neighbours
                verdict.pending.refuse(bug)
        for pending, error in self.refusals:
            pending.refuse(error)
        yield from self.deferred

    def written(self) -> Iterator[tuple[UUID, FreshStream]]:
        """How the unit left streams that somebody may go on with, now that it is settled."""
        for verdict in self.answered:
            submission = verdict.pending.submission
            goes_on = submission.creates or submission.idempotence_key is None
            if verdict.changed and not verdict.replayed and goes_on:
                history, aggregate = verdict.stream.history, submission.aggregate
                yield (
                    verdict.stream.stream_id,
                    FreshStream(
                        category=aggregate.category,
                        version=history.version,
                        last=history.entries[history.version],
                        state=history.state(aggregate, history.version),
                    ),
                )

    def retreat(self, refusal: Refusal) -> Iterator[Pending]:
        """Nothing of the unit was written; yields who has to go again, on fresh state."""
        if not refusal.by_guard or len(self.writers) > 1:
            yield from self.everyone()
            return
        sender = self.writers[0].submission
        for pending in self.everyone():
            if pending.submission.repeats(sender):
                pending.refuse(_refusal_of(sender, refusal))
            else:
                yield pending

    @property
    def is_new_to_log(self) -> bool:
        """Whether each creation in it writes something, as if it had never been sent before."""
        return not any(pending.submission.creates for pending, _ in self.refusals) and not any(
            verdict.replayed and verdict.pending.submission.creates for verdict in self.verdicts
        )

    @property
    def is_settled(self) -> bool:
        """Whether nothing that is appended changes what anybody in it is told."""
        return not (self.planned or self.notes or self.deferred or self.assumes)

    def is_contested(self, refusal: Refusal) -> bool:
        """Whether it is open which of several writing commands the refusal is about."""
        return refusal.by_guard and len(self.writers) > 1

    def everyone(self) -> Iterator[Pending]:
        """All commands of the unit."""
        yield from (verdict.pending for verdict in self.verdicts)
        yield from (pending for pending, _ in self.refusals)
        yield from self.deferred


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
    entry: Entry,
    submission: Submission,
    *,
    unit: int,
    aggregate: Aggregate[Any, Any, Any],
    stream: Stream,
) -> NewEvent:
    event = entry.event
    meta = {
        "event_id": new_event_id(),
        "correlation_id": submission.command_id,
        "causation_id": submission.command_id,
        "actor": submission.actor.name,
        "schema": SCHEMA_VERSION,
        "topic": aggregate.topic(event),
    }
    if entry.fingerprint:
        meta["fingerprint"] = entry.fingerprint
    if submission.traceparent:
        meta["traceparent"] = submission.traceparent
    return NewEvent(
        unit=unit,
        partition=stream.partition,
        stream_id=stream.stream_id,
        category=aggregate.category,
        version=stream.history.version + 1,
        type=type(event).__name__,
        idempotence_key=entry.idempotence_key,
        data=encode(event),
        meta=to_json(meta).decode(),
        guards=aggregate.guards(event),
    )
