"""The half that reads the log: a projector whose rows are what events cause.

Leadership, the fence, attempts that are noted before they are made, parked streams, the queue that
announces and the name of the log are a projector's, and come from there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from psycopg import Cursor

from codebase.engine.log.codec import UnknownEventError
from codebase.engine.projections.logged_events import LoggedEvent
from codebase.engine.projections.projection import Projection, Projector, nobody_waits
from codebase.engine.reactions.departures import Departures
from codebase.engine.reactions.errands import Errands
from codebase.engine.reactions.keys import cause_of_event
from codebase.engine.reactions.reaction import Happened, Reaction, State
from codebase.engine.reactions.recording import (
    Caused,
    Source,
    checked,
    in_effect,
    lock_subjects,
    record,
    to_json,
    write_states,
)
from codebase.engine.reactions.store import REACTION_STORE, ForbiddenError, check_may_act
from codebase.foundation.validation import adapter

# Why nothing may be caused, in which log this is, up to where nothing is caused in it any more, and
# up to where what is caused may have been done where the log came from.
READ_LOG = """
    SELECT reaction.what_forbids_acting(),
           coalesce((SELECT id::text FROM log_identity), ''),
           coalesce((
               SELECT remembered_until FROM projection_checkpoint
               WHERE projector = %(projector)s AND partition = %(partition)s
           ), 0),
           coalesce((SELECT position FROM adopted_head WHERE partition = %(partition)s), 0)
"""


@dataclass(frozen=True, slots=True)
class Log:
    """What is known of a log and a partition of it.

    Args:
        name: of the log, which its copies share.
        remembered_until: the last position that is only remembered.
        adopted_until: the last position that was there when the log was adopted.
    """

    name: str
    remembered_until: int
    adopted_until: int


def projector_of(
    reaction: Reaction,
    *,
    recorded: Callable[[], None] = nobody_waits,
    errands: Mapping[str, Errands] | None = None,
) -> Projector:
    """What moves a reaction through the log.

    Args:
        reaction: which one.
        recorded: called when something may wait to be done, and is committed.
        errands: target -> the way to it of what need not wait.
    """
    reading = Reading(reaction, recorded, errands or {})
    rows = Projection(
        name=reaction.name,
        aggregates=reaction.aggregates,
        tables=("subject", "intent", "reminder"),
        apply=reading.apply,
        # They are never computed again: `operations/verify` has a check of their own.
        expected_rows=lambda _stream_id, _recorded: (),
        passes_over=reaction.passes_over,
    )
    return Projector(
        name=reaction.name,
        projections=(rows,),
        store=REACTION_STORE,
        rest_seconds=reaction.rest_seconds,
        committed=reading.committed,
        not_committed=reading.not_committed,
        check_place=check_may_act,
    )


class _OfThread(threading.local):
    """What one thread has written down, and not committed yet."""

    departures: Departures | None = None

    def pop(self) -> Departures | None:
        """What there is, once."""
        departures, self.departures = self.departures, None
        return departures


class Reading:
    """Gives events to a reaction, and writes down what it says.

    Args:
        reaction: whose functions are asked.
        recorded: called after something was caused that waits, and was committed.
        errands: target -> the way to it of what need not wait.
    """

    def __init__(
        self, reaction: Reaction, recorded: Callable[[], None], errands: Mapping[str, Errands]
    ) -> None:
        self._reaction = reaction
        self._recorded = recorded
        self._errands = errands
        # Each partition has a thread, which applies and then commits.
        self._of_this_thread = _OfThread()
        self._classes = {
            (aggregate.category, event.__name__): event
            for aggregate in reaction.aggregates
            for event in aggregate.events
            if reaction.is_told_of(event)
        }

    def apply(self, cursor: Cursor[Any], events: Sequence[LoggedEvent]) -> None:
        """Write down what events cause, in the transaction that moves the checkpoint.

        Raises:
            ForbiddenError: this is a copy of another log, or a restored one.
            UnknownEventError: an event cannot be read.
        """
        wanted = [event for event in events if (event.category, event.type) in self._classes]
        found = [
            (event, happened, self._reaction.subject(happened))
            for event, happened in zip(wanted, map(self.happened, wanted), strict=True)
        ]
        concerned = [
            (event, happened, subject) for event, happened, subject in found if subject is not None
        ]
        if not concerned:
            return
        log = self._read_log(cursor, concerned)
        if self._reaction.remembers:
            self._apply_remembering(cursor, log, concerned)
        else:
            self._apply_forgetful(cursor, log, concerned)

    def committed(self) -> None:
        """What this thread has applied is committed."""
        if departures := self._of_this_thread.pop():
            departures.start()
            if departures.leaves_some:
                self._recorded()

    def not_committed(self) -> None:
        """It is not, or nobody knows."""
        if departures := self._of_this_thread.pop():
            departures.cancel()

    def happened(self, event: LoggedEvent) -> Happened:
        """An event of the log as a reaction gets it.

        Raises:
            UnknownEventError: it cannot be read.
        """
        kind = self._classes[event.category, event.type]
        try:
            read = adapter(kind).validate_json(event.data or "")
        except ValueError:
            place = f"{event.type} at {event.partition}:{event.position}"
            raise UnknownEventError(f"{place} cannot be read") from None
        return Happened(
            event=read,
            stream_id=event.stream_id,
            version=event.version,
            recorded_at=event.recorded_at,
        )

    def _apply_remembering(
        self, cursor: Cursor[Any], log: Log, concerned: Sequence[Concerned]
    ) -> None:
        subjects = {subject for _, _, subject in concerned}
        before = lock_subjects(cursor, self._reaction.name, subjects)
        # As texts: whoever changes a state in its place has changed it as well.
        texts = {each: to_json(state) for each, state in before.items()}
        states, caused = before, list[Caused]()
        for event, happened, subject in concerned:
            states[subject] = self._reaction.evolve(states[subject], happened)
            caused.append(self._caused(log, event, happened, subject, states[subject]))
        changed = {each: state for each, state in states.items() if to_json(state) != texts[each]}
        write_states(cursor, self._reaction.name, changed)
        self._record(cursor, [each for each in caused if each.intents])

    def _apply_forgetful(
        self, cursor: Cursor[Any], log: Log, concerned: Sequence[Concerned]
    ) -> None:
        """Nobody is locked for whom there is nothing to do."""
        found = in_effect([self._caused(log, *each, None) for each in concerned])
        caused = [each for each in found if each.intents]
        if caused:
            # Who is only to be forgotten need not become known for that.
            add = {each.subject for each in caused if not each.only_forgets}
            subjects = {each.subject for each in caused}
            lock_subjects(cursor, self._reaction.name, subjects, add=add)
            self._record(cursor, caused)

    def _record(self, cursor: Cursor[Any], caused: Sequence[Caused]) -> None:
        if caused:
            self._of_this_thread.departures = departures = Departures(self._errands)
            record(cursor, self._reaction.name, caused, departures)

    def _read_log(self, cursor: Cursor[Any], concerned: Sequence[Concerned]) -> Log:
        """Of one partition, as all events are that are applied together.

        Raises:
            ForbiddenError: a copy or a restored dump would do once more what was done already.
        """
        where = {"projector": self._reaction.name, "partition": concerned[0][0].partition}
        [(forbids, *known)] = cursor.execute(READ_LOG, where).fetchall()
        if forbids is not None:
            raise ForbiddenError(forbids)
        return Log(*known)

    def _caused(
        self, log: Log, event: LoggedEvent, happened: Happened, subject: UUID, state: State
    ) -> Caused:
        reacts = event.position > log.remembered_until
        event_id = event.event_id or f"{event.partition}:{event.position}"
        return Caused(
            subject=subject,
            cause=cause_of_event(self._reaction.name, log.name, event_id),
            intents=checked(self._reaction.caused_by(happened, state) if reacts else ()),
            source=Source(event_id=event_id, partition=event.partition, position=event.position),
            is_adopted=event.position <= log.adopted_until,
        )


Concerned = tuple[LoggedEvent, Happened, UUID]
