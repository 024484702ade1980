"""Reminders that are due: each fires once, together with what it causes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import psycopg
from psycopg import Connection, Cursor

from codebase.engine.projections.blame import describe
from codebase.engine.reactions.reaction import Reaction, Reminder, State
from codebase.engine.reactions.recording import Caused, checked, record, to_json, write_states
from codebase.engine.reactions.store import is_not_taken
from codebase.foundation.failpoints import failpoint

BATCH = 500
"""Of a hundred thousand that are due together, so many at a time."""

FIND_DUE = """
    SELECT subject, name FROM reminder
    WHERE reaction = %(reaction)s AND reason IS NULL AND due_at <= statement_timestamp()
    ORDER BY due_at
    LIMIT %(limit)s
"""

# The subject is locked before its reminder, as everybody does. Whom somebody else has locked is
# found again next time. A subquery for each: a look into the key, whatever is known of the table.
LOCK_FREE = """
    SELECT locked.id, locked.state
    FROM (SELECT DISTINCT unnest(%(subjects)s::uuid[]) ORDER BY 1) AS wanted (id)
    CROSS JOIN LATERAL (
        SELECT id, state FROM subject
        WHERE subject.reaction = %(reaction)s AND subject.id = wanted.id
        LIMIT 1
        FOR UPDATE SKIP LOCKED
    ) AS locked
"""

# Once more, now that nobody can replace them or have them forgotten.
READ_DUE = """
    SELECT reminder.subject, reminder.name, reminder.due_at, reminder.data, reminder.key,
           reminder.is_adopted,
           EXISTS (
               SELECT FROM intent
               WHERE intent.reaction = reminder.reaction AND intent.subject = reminder.subject
                 AND intent.ended_at IS NULL
           )
    FROM reminder
    JOIN unnest(%(subjects)s::uuid[], %(names)s::text[]) AS found (subject, name)
      ON reminder.subject = found.subject AND reminder.name = found.name
    WHERE reminder.reaction = %(reaction)s AND reminder.reason IS NULL
      AND reminder.due_at <= statement_timestamp() AND reminder.subject = ANY (%(locked)s::uuid[])
    ORDER BY reminder.due_at, reminder.subject, reminder.name
"""

REMOVE = """
    DELETE FROM reminder
    USING unnest(%(subjects)s::uuid[], %(names)s::text[]) AS fired (subject, name)
    WHERE reminder.reaction = %(reaction)s
      AND reminder.subject = fired.subject AND reminder.name = fired.name
"""

SET_ASIDE = """
    UPDATE reminder SET reason = failed.reason
    FROM unnest(%(subjects)s::uuid[], %(names)s::text[], %(reasons)s::text[])
        AS failed (subject, name, reason)
    WHERE reminder.reaction = %(reaction)s
      AND reminder.subject = failed.subject AND reminder.name = failed.name
"""


@dataclass(slots=True)
class _Fired:
    """Reminders that have fired, those that could not, what follows, and which states changed."""

    done: list[Reminder] = field(default_factory=list)
    failed: list[tuple[Reminder, str]] = field(default_factory=list)
    caused: list[Caused] = field(default_factory=list)
    states: dict[UUID, State] = field(default_factory=dict)


Fire = Callable[[Reaction, Sequence[Any], dict[UUID, State]], _Fired]
"""(whose, rows of `READ_DUE`, the state of each subject) -> what became of them."""


def fire_due(store: Connection[Any], reaction: Reaction) -> int:
    """Fire reminders that are due, at most `BATCH`.

    Returns:
        How many there were; some may be left to somebody else.
    """
    key = {"reaction": reaction.name}
    found = store.execute(FIND_DUE, {**key, "limit": BATCH}, prepare=True).fetchall()
    if not found:
        return 0
    try:
        return _fire_found(store, reaction, found, _fire)
    except (psycopg.Error, UnicodeError) as error:
        if not is_not_taken(error):
            raise
    # What one of them causes cannot be written; the others are not to wait for it.
    return sum(_fire_alone(store, reaction, each) for each in found)


def _fire_alone(store: Connection[Any], reaction: Reaction, found: Sequence[Any]) -> int:
    try:
        return _fire_found(store, reaction, [found], _fire)
    except (psycopg.Error, UnicodeError) as error:
        if not is_not_taken(error):
            raise
        reason = describe(error)
    return _fire_found(store, reaction, [found], lambda _, due, __: _failed(due, reason))


def _fire_found(
    store: Connection[Any], reaction: Reaction, found: Sequence[Any], fire: Fire
) -> int:
    key = {"reaction": reaction.name}
    subjects, names = (list(column) for column in zip(*found, strict=True))
    with store.transaction(), store.cursor() as cursor:
        states = dict(cursor.execute(LOCK_FREE, {**key, "subjects": subjects}).fetchall())
        asked = {**key, "subjects": subjects, "names": names, "locked": list(states)}
        due = cursor.execute(READ_DUE, asked, prepare=False).fetchall()
        _write(cursor, reaction, fire(reaction, due, states))
        failpoint("reaction_before_reminder_commit")
    failpoint("reaction_after_reminder_commit")
    return len(due)


def _failed(due: Sequence[Any], reason: str) -> _Fired:
    return _Fired(
        failed=[
            (Reminder(subject=subject, name=name, due_at=due_at, data=data), reason)
            for subject, name, due_at, data, *_ in due
        ]
    )


def _fire(reaction: Reaction, due: Sequence[Any], states: dict[UUID, State]) -> _Fired:
    fired = _Fired()
    for subject, name, due_at, data, cause, is_adopted, is_busy in due:
        reminder = Reminder(subject=subject, name=name, due_at=due_at, data=data, is_busy=is_busy)
        try:
            intents = checked(reaction.remind(reminder, states[subject]))
            before, after = states[subject], reaction.reminded(reminder, states[subject])
            to_json(after)
        except Exception as error:  # noqa: BLE001 - the boundary between neighbours
            fired.failed.append((reminder, describe(error)))
        else:
            fired.done.append(reminder)
            fired.caused.append(
                Caused(subject=subject, cause=cause, intents=intents, is_adopted=is_adopted)
            )
            if after != before:
                states[subject] = fired.states[subject] = after
    return fired


def _write(cursor: Cursor[Any], reaction: Reaction, fired: _Fired) -> None:
    """Those that have fired go first: one of the same name may follow from them."""
    if fired.done:
        cursor.execute(REMOVE, _named(reaction, fired.done), prepare=False)
    if fired.failed:
        reminders, reasons = zip(*fired.failed, strict=True)
        named = _named(reaction, reminders)
        cursor.execute(SET_ASIDE, {**named, "reasons": list(reasons)}, prepare=False)
    write_states(cursor, reaction.name, fired.states)
    record(cursor, reaction.name, fired.caused)


def _named(reaction: Reaction, reminders: Sequence[Reminder]) -> dict[str, Any]:
    return {
        "reaction": reaction.name,
        "subjects": [each.subject for each in reminders],
        "names": [each.name for each in reminders],
    }
