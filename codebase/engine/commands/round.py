"""One round of group commit: what a batch of commands would write, decided in memory.

Nothing here waits for anything. The command bus reads what a round needs, asks the round for its
events, appends them, and tells the round what became of them; the round answers the commands.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from codebase.engine.commands.fingerprint import Fingerprints
from codebase.engine.commands.fresh_streams import FreshStream
from codebase.engine.commands.history import History, Stream
from codebase.engine.commands.submission import Pending
from codebase.engine.commands.unit import Unit
from codebase.engine.log.appending import Appended
from codebase.engine.log.events import NewEvent
from codebase.engine.log.identifiers import partition_of
from codebase.engine.log.notes import Note


@dataclass(slots=True)
class Again:
    """What the next round has to do.

    Args:
        work: the commands to decide again, their streams read first.
        one_each: the streams in which only the first command may go, because together their
            commands were refused and some of them may be innocent.
        resting: the commands that somebody else has to make room for first.
    """

    work: list[Pending] = field(default_factory=list)
    resting: list[Pending] = field(default_factory=list)
    one_each: set[UUID] = field(default_factory=set)


class Round:
    """Units for a batch of commands: one per stream, or one for streams that act together.

    Args:
        work: in the order of arrival.
        histories: every stream that was read; the others are assumed to be empty.
        partitions: how many the log has.
        fingerprints: tell repeats from other commands.
        one_each: streams in which only the first command may go this time.
        holders: kind -> the streams that hold claims of that kind, of every kind that a command
            takes along.
    """

    def __init__(
        self,
        work: Iterable[Pending],
        histories: dict[UUID, History],
        partitions: int,
        fingerprints: Fingerprints,
        *,
        one_each: set[UUID] | None = None,
        holders: Mapping[str, Sequence[UUID]] | None = None,
    ) -> None:
        self._histories = histories
        self._partitions = partitions
        self._fingerprints = fingerprints
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
        unit = Unit(len(self._units), self._fingerprints)
        self._units.append(unit)
        return unit

    def _stream(self, stream_id: UUID) -> Stream:
        stream = self._streams.get(stream_id)
        if stream is None:
            history = self._histories.get(stream_id) or History(read=False)
            partition = partition_of(stream_id, self._partitions)
            stream = self._streams[stream_id] = Stream(
                stream_id, partition, history, stored=history.version
            )
        return stream

    @property
    def new_events(self) -> list[NewEvent]:
        """Everything that the round wants to append."""
        return [event for unit in self._units for event, _ in unit.planned]

    @property
    def new_notes(self) -> list[tuple[int, Note]]:
        """Unit -> a command of it that had nothing to do."""
        return [(unit.number, note) for unit in self._units for note in unit.notes]

    @property
    def is_new_to_log(self) -> bool:
        """Whether every creation in it writes something, as if it had never been sent before."""
        return all(unit.is_new_to_log for unit in self._units)

    def written(self, appended: Appended) -> Iterator[tuple[UUID, FreshStream]]:
        """How the round left the streams that it wrote, once it is settled."""
        for unit in self._units:
            if unit.number not in appended.refused:
                yield from unit.written()

    def answer_settled(self) -> None:
        """Answer those whose units have nothing to write: they need not wait for the others."""
        units, self._units = self._units, []
        for unit in units:
            if unit.is_settled:
                again = [*unit.settle()]
                assert not again, "only what is written or assumed goes again"  # noqa: S101 - an invariant
            else:
                self._units.append(unit)

    def everyone(self) -> list[Pending]:
        """All commands of the round but those of `answer_settled`."""
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
            if refusal.may_pass:
                again.resting += unit.retreat(refusal)
                continue
            again.work += unit.retreat(refusal)
            if unit.is_contested(refusal):
                again.one_each |= {pending.submission.stream_id for pending in unit.writers}
        return again
