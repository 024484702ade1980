"""Writing down what is caused: intents, reminders, and what a reaction remembers of its subjects.

Whoever records has locked the subjects first, in one order: so intents of one subject are numbered
in the order of their commits, whoever causes them, and nobody waits for somebody who waits for him.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from psycopg import Cursor

from codebase.engine.reactions.keys import key_of
from codebase.engine.reactions.reaction import Forget, Intent, Remind, Send, State

# Most subjects are known, and a row that is there is not inserted: that would use up a number of
# what it waits for, and a lock.
ADD_SUBJECTS = """
    INSERT INTO subject (reaction, id)
    SELECT %(reaction)s, wanted.id
    FROM unnest(%(ids)s::uuid[]) AS wanted (id)
    WHERE NOT EXISTS (
        SELECT FROM subject WHERE subject.reaction = %(reaction)s AND subject.id = wanted.id
    )
    ORDER BY wanted.id
    ON CONFLICT DO NOTHING
"""

LOCK_SUBJECTS = """
    SELECT id, state FROM subject
    WHERE reaction = %(reaction)s AND id = ANY (%(ids)s::uuid[])
    ORDER BY id
    FOR UPDATE
"""

WRITE_STATES = """
    UPDATE subject SET state = new.state
    FROM unnest(%(ids)s::uuid[], %(states)s::text[]::jsonb[]) AS new (id, state)
    WHERE subject.reaction = %(reaction)s AND subject.id = new.id
"""

# What is noted already is not noted twice: a log that is read again from its beginning, by whoever
# has lost his place, causes the same effects by the same names.
INSERT_INTENTS = """
    WITH new AS (
        SELECT * FROM unnest(
            %(keys)s::uuid[], %(subjects)s::uuid[], %(targets)s::text[], %(actions)s::text[],
            %(data)s::text[]::jsonb[], %(event_ids)s::text[], %(partitions)s::smallint[],
            %(positions)s::bigint[], %(ordinals)s::integer[], %(causes)s::uuid[]
        ) WITH ORDINALITY AS new (
            key, subject, target, action, data, event_id, partition, position, ordinal, cause, place
        )
        WHERE NOT EXISTS (SELECT FROM intent AS known WHERE known.key = new.key)
    )
    INSERT INTO intent (
        key, reaction, subject, target, action, data, event_id, partition, position, ordinal, cause,
        is_next
    )
    SELECT key, %(reaction)s, subject, target, action, data, event_id, partition, position, ordinal,
           cause,
           row_number() OVER (PARTITION BY subject ORDER BY place) = 1 AND NOT EXISTS (
               SELECT FROM intent AS earlier
               WHERE earlier.reaction = %(reaction)s AND earlier.subject = new.subject
                 AND earlier.ended_at IS NULL
           )
    FROM new
    ORDER BY place
"""

WRITE_REMINDERS = """
    INSERT INTO reminder (reaction, subject, name, key, due_at, data)
    SELECT %(reaction)s, new.*
    FROM unnest(%(subjects)s::uuid[], %(names)s::text[], %(keys)s::uuid[],
                %(due_at)s::timestamptz[], %(data)s::text[]::jsonb[])
        AS new (subject, name, key, due_at, data)
    ON CONFLICT (reaction, subject, name) DO UPDATE
    SET key = excluded.key, due_at = excluded.due_at, data = excluded.data, reason = NULL
"""

FORGET_REMINDERS = """
    DELETE FROM reminder
    USING unnest(%(subjects)s::uuid[], %(names)s::text[]) AS gone (subject, name)
    WHERE reminder.reaction = %(reaction)s
      AND reminder.subject = gone.subject AND reminder.name = gone.name
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """The event that something comes from."""

    event_id: str
    partition: int
    position: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Checked:
    """An intent that can be written down.

    Args:
        intent: as a reaction said it.
        data: of it, as JSON: whatever is done to a state or an answer that it has parts of later
            changes nothing here.
    """

    intent: Intent
    data: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Caused:
    """What is to be done for one subject.

    Args:
        subject: whom it is about.
        cause: names what causes it: an event, a reminder, the outcome of something before.
        intents: what is to be done, in this order, `checked`.
        source: the event, if it is one.
    """

    subject: UUID
    cause: UUID
    intents: Sequence[Checked]
    source: Source | None = None


def lock_subjects(
    cursor: Cursor[Any], reaction: str, subjects: Collection[UUID]
) -> dict[UUID, State]:
    """Keep everybody else from these subjects until the transaction ends; what is known of them."""
    key = {"reaction": reaction, "ids": sorted(set(subjects))}
    cursor.execute(ADD_SUBJECTS, key)
    return dict(cursor.execute(LOCK_SUBJECTS, key).fetchall())


def write_states(cursor: Cursor[Any], reaction: str, states: Mapping[UUID, State]) -> None:
    """Remember these states of subjects that are locked.

    Raises:
        TypeError, ValueError: a state is not what JSON knows.
    """
    if states:
        texts = [to_json(state) for state in states.values()]
        new = {"reaction": reaction, "ids": list(states), "states": texts}
        cursor.execute(WRITE_STATES, new, prepare=False)


def checked(intents: Sequence[Intent]) -> Sequence[Checked]:
    """The same, if they can be written down.

    Raises:
        TypeError, ValueError: one is no intent, or holds what is not JSON.
    """
    return [_checked(intent) for intent in intents]


def _checked(intent: Intent) -> Checked:
    match intent:
        case Send():
            to_json([intent.target, intent.action])
            return Checked(intent=intent, data=to_json(intent.data))
        case Remind():
            if intent.due_at.tzinfo is None:
                raise ValueError("due_at has no time zone")
            to_json(intent.name)
            return Checked(intent=intent, data=to_json(intent.data))
        case Forget():
            return Checked(intent=intent, data=to_json(intent.name))
        case _:
            raise TypeError(f"{type(intent).__name__} is no intent")


def record(cursor: Cursor[Any], reaction: str, caused: Sequence[Caused]) -> None:
    """Write down what is caused, for subjects that are locked."""
    numbered = [
        (each, ordinal, checked.intent, checked.data)
        for each in caused
        for ordinal, checked in enumerate(each.intents)
    ]
    _record_sends(cursor, reaction, [each for each in numbered if isinstance(each[2], Send)])
    _record_reminders(
        cursor, reaction, [each for each in numbered if not isinstance(each[2], Send)]
    )


Numbered = tuple[Caused, int, Any, str]


def _record_sends(cursor: Cursor[Any], reaction: str, sends: Sequence[Numbered]) -> None:
    if not sends:
        return
    sources = [caused.source for caused, *_ in sends]
    columns = {
        "reaction": reaction,
        "keys": [key_of(caused.cause, ordinal) for caused, ordinal, *_ in sends],
        "subjects": [caused.subject for caused, *_ in sends],
        "targets": [send.target for _, _, send, _ in sends],
        "actions": [send.action for _, _, send, _ in sends],
        "data": [data for *_, data in sends],
        "event_ids": [source and source.event_id for source in sources],
        "partitions": [source and source.partition for source in sources],
        "positions": [source and source.position for source in sources],
        "ordinals": [ordinal for _, ordinal, *_ in sends],
        "causes": [caused.cause for caused, *_ in sends],
    }
    cursor.execute(INSERT_INTENTS, columns, prepare=False)


def _record_reminders(cursor: Cursor[Any], reaction: str, changes: Iterable[Numbered]) -> None:
    """The last word on each reminder counts."""
    last = {(each[0].subject, each[2].name): each for each in changes}
    forgotten = [key for key, (_, _, change, _) in last.items() if isinstance(change, Forget)]
    if forgotten:
        subjects, names = zip(*forgotten, strict=True)
        gone = {"reaction": reaction, "subjects": list(subjects), "names": list(names)}
        cursor.execute(FORGET_REMINDERS, gone, prepare=False)
    kept = [each for each in last.values() if isinstance(each[2], Remind)]
    if kept:
        columns = {
            "reaction": reaction,
            "subjects": [caused.subject for caused, *_ in kept],
            "names": [remind.name for _, _, remind, _ in kept],
            "keys": [key_of(caused.cause, ordinal) for caused, ordinal, *_ in kept],
            "due_at": [remind.due_at for _, _, remind, _ in kept],
            "data": [data for *_, data in kept],
        }
        cursor.execute(WRITE_REMINDERS, columns, prepare=False)


def to_json(value: object) -> str:
    """The text of what is kept as JSON.

    Raises:
        TypeError, ValueError: it is not what JSON knows.
    """
    text = json.dumps(value, allow_nan=False, ensure_ascii=False)
    text.encode()  # half of a surrogate pair is no character
    if r"\u0000" in text.replace(r"\\", ""):
        raise ValueError("Postgres keeps no text with a NUL in it")
    return text
