"""Writing down what is caused: intents, reminders, and what a reaction remembers of its subjects.

Whoever records has locked the subjects first, in one order: so intents of one subject are numbered
in the order of their commits, whoever causes them, and nobody waits for somebody who waits for him.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from psycopg import Cursor

from codebase.engine.reactions.departures import Departures
from codebase.engine.reactions.keys import key_of
from codebase.engine.reactions.reaction import Forget, Intent, Remind, Send, State
from codebase.foundation.arrays import (
    bigints,
    booleans,
    doubles,
    integers,
    smallints,
    texts,
    timestamps,
    uuids,
)
from codebase.foundation.backoff import with_jitter

# A subquery for each subject, here and below: it is always planned as a look into the key. Of a
# table that has grown since it was counted, other plans go through all that the reaction knows.
# Most subjects are known, and a row that is there is not inserted: that would use up a number of
# what it waits for, and a lock.
ADD_SUBJECTS = """
    INSERT INTO subject (reaction, id)
    SELECT %(reaction)s, wanted.id
    FROM unnest(%(ids)b::uuid[]) AS wanted (id)
    LEFT JOIN LATERAL (
        SELECT true AS is_there FROM subject
        WHERE subject.reaction = %(reaction)s AND subject.id = wanted.id
        LIMIT 1
    ) AS known ON true
    WHERE known.is_there IS NULL
    ORDER BY wanted.id
    ON CONFLICT DO NOTHING
    RETURNING id
"""

# In the order of the ids, as whoever asks has sorted them.
LOCK_SUBJECTS = """
    SELECT locked.id, locked.state
    FROM unnest(%(ids)b::uuid[]) AS wanted (id)
    CROSS JOIN LATERAL (
        SELECT id, state FROM subject
        WHERE subject.reaction = %(reaction)s AND subject.id = wanted.id
        LIMIT 1
        FOR UPDATE
    ) AS locked
"""

# They are all there: an UPDATE that joins them may be planned to go through all of the others.
WRITE_STATES = """
    INSERT INTO subject (reaction, id, state)
    SELECT %(reaction)s, new.id, new.state
    FROM unnest(%(ids)b::uuid[], %(states)b::text[]::jsonb[]) AS new (id, state)
    ON CONFLICT (reaction, id) DO UPDATE SET state = excluded.state
"""

# What is noted already is not noted twice: a log that is read again from its beginning, by whoever
# has lost his place, causes the same effects by the same names. What has a lease is as if it had
# been taken: whoever finds it after the end of that asks what became of it. What may be at work at
# this moment is asked about a moment later.
INSERT_INTENTS = """
    WITH new AS (
        SELECT * FROM unnest(
            %(keys)b::uuid[], %(subjects)b::uuid[], %(targets)b::text[], %(actions)b::text[],
            %(data)b::text[]::jsonb[], %(event_ids)b::text[], %(partitions)b::smallint[],
            %(positions)b::bigint[], %(ordinals)b::integer[], %(causes)b::uuid[],
            %(are_adopted)b::boolean[], %(in_doubt)b::boolean[], %(lease_seconds)b::float8[]
        ) WITH ORDINALITY AS new (
            key, subject, target, action, data, event_id, partition, position, ordinal, cause,
            is_adopted, in_doubt, lease_seconds, place
        )
        WHERE NOT EXISTS (SELECT FROM intent AS known WHERE known.key = new.key)
    ), placed AS (
        SELECT new.*,
               row_number() OVER (PARTITION BY subject ORDER BY place) = 1 AND NOT EXISTS (
                   SELECT FROM intent AS earlier
                   WHERE earlier.reaction = %(reaction)s AND earlier.subject = new.subject
                     AND earlier.ended_at IS NULL
               ) AS is_next
        FROM new
    )
    INSERT INTO intent (
        key, reaction, subject, target, action, data, event_id, partition, position, ordinal, cause,
        is_adopted, in_doubt, is_next, token, attempts, due_at
    )
    SELECT key, %(reaction)s, subject, target, action, data, event_id, partition, position, ordinal,
           cause, is_adopted, is_adopted OR in_doubt OR departs, is_next,
           CASE WHEN departs THEN %(token)s::uuid END, departs::integer,
           clock_timestamp() + make_interval(secs => CASE WHEN departs THEN lease_seconds
                                                          WHEN in_doubt THEN %(doubt_seconds)s
                                                          ELSE 0 END)
    FROM placed
    CROSS JOIN LATERAL (SELECT is_next AND lease_seconds IS NOT NULL) AS at_once (departs)
    ORDER BY place
    RETURNING number, key, subject, target, action,
              CASE WHEN token IS NOT NULL THEN data::text END
"""

WRITE_REMINDERS = """
    INSERT INTO reminder (reaction, subject, name, key, due_at, data, is_adopted)
    SELECT %(reaction)s, new.*
    FROM unnest(%(subjects)b::uuid[], %(names)b::text[], %(keys)b::uuid[],
                %(due_at)b::timestamptz[], %(data)b::text[]::jsonb[], %(are_adopted)b::boolean[])
        AS new (subject, name, key, due_at, data, is_adopted)
    ON CONFLICT (reaction, subject, name) DO UPDATE
    SET key = excluded.key, due_at = excluded.due_at, data = excluded.data, reason = NULL,
        is_adopted = excluded.is_adopted
"""

FORGET_REMINDERS = """
    DELETE FROM reminder
    USING unnest(%(subjects)b::uuid[], %(names)b::text[]) AS gone (subject, name)
    WHERE reminder.reaction = %(reaction)s
      AND reminder.subject = gone.subject AND reminder.name = gone.name
"""

DOUBT_SECONDS = 0.2
"""Before it is asked whether something was done: who did not answer may still be at it."""
STRICT = json.JSONEncoder(allow_nan=False, ensure_ascii=False)


# The classes here are not frozen, though never changed: as `NewEvent`, several are made for every
# event.
@dataclass(kw_only=True, slots=True)
class Source:
    """The event that something comes from."""

    event_id: str
    partition: int
    position: int


@dataclass(kw_only=True, slots=True)
class Checked:
    """An intent that can be written down.

    Args:
        intent: as a reaction said it.
        ordinal: its place among what is caused.
        data: of it, as JSON: whatever is done to a state or an answer that it has parts of later
            changes nothing here.
    """

    intent: Intent
    ordinal: int
    data: str


@dataclass(kw_only=True, slots=True)
class Caused:
    """What is to be done for one subject.

    Args:
        subject: whom it is about.
        cause: names what causes it: an event, a reminder, the outcome of something before.
        intents: what is to be done, in this order, `checked`.
        source: the event, if it is one.
        is_adopted: whether the cause was in the log when that was adopted, or follows from what
            was: where it came from all of this may have been done, by the same keys.
    """

    subject: UUID
    cause: UUID
    intents: Sequence[Checked]
    source: Source | None = None
    is_adopted: bool = False

    @property
    def only_forgets(self) -> bool:
        """Whether nothing is to be done, or to be thought of."""
        return all(isinstance(each.intent, Forget) for each in self.intents)


def lock_subjects(
    cursor: Cursor[Any],
    reaction: str,
    subjects: Collection[UUID],
    *,
    add: Collection[UUID] | None = None,
) -> dict[UUID, State]:
    """Keep everybody else from these subjects until the transaction ends; what is known of them.

    Args:
        cursor: in a transaction.
        reaction: whose subjects.
        subjects: which.
        add: those of them that are to be known from now on; None: all.
    """
    states: dict[UUID, State] = {}
    if new := sorted(set(subjects if add is None else add)):
        wanted = {"reaction": reaction, "ids": uuids(new)}
        states = {each: None for (each,) in cursor.execute(ADD_SUBJECTS, wanted).fetchall()}
    # Who wants to add what was added here waits for the end of this transaction already.
    if known := sorted(set(subjects) - states.keys()):
        wanted = {"reaction": reaction, "ids": uuids(known)}
        states |= cursor.execute(LOCK_SUBJECTS, wanted).fetchall()
    return states


def write_states(cursor: Cursor[Any], reaction: str, states: Mapping[UUID, State]) -> None:
    """Remember these states of subjects that are locked.

    Raises:
        TypeError, ValueError: a state is not what JSON knows.
    """
    if states:
        new = {
            "reaction": reaction,
            "ids": uuids(list(states)),
            "states": texts([to_json(state) for state in states.values()]),
        }
        cursor.execute(WRITE_STATES, new, prepare=False)


def checked(intents: Sequence[Intent]) -> Sequence[Checked]:
    """The same, if they can be written down.

    Raises:
        TypeError, ValueError: one is no intent, or holds what is not JSON.
    """
    return [
        Checked(intent=intent, ordinal=ordinal, data=_checked(intent))
        for ordinal, intent in enumerate(intents)
    ]


def _checked(intent: Intent) -> str:
    match intent:
        case Send():
            to_json([intent.target, intent.action])
            return to_json(intent.data)
        case Remind():
            if intent.due_at.tzinfo is None:
                raise ValueError("due_at has no time zone")
            to_json(intent.name)
            return to_json(intent.data)
        case Forget():
            return to_json(intent.name)
        case _:
            raise TypeError(f"{type(intent).__name__} is no intent")


def in_effect(caused: Sequence[Caused]) -> list[Caused]:
    """The same, without what is said of reminders and taken back: the last word on each counts."""
    last: dict[tuple[UUID, str], Checked] = {}
    for each in caused:
        for one in each.intents:
            if not isinstance(one.intent, Send):
                last[each.subject, one.intent.name] = one
    if not last:
        return list(caused)

    def counts(subject: UUID, one: Checked) -> bool:
        return isinstance(one.intent, Send) or last[subject, one.intent.name] is one

    return [
        replace(each, intents=[one for one in each.intents if counts(each.subject, one)])
        for each in caused
    ]


def record(
    cursor: Cursor[Any],
    reaction: str,
    caused: Sequence[Caused],
    departures: Departures | None = None,
) -> None:
    """Write down what is caused, for subjects that are locked.

    Args:
        cursor: in a transaction.
        reaction: whose subjects.
        caused: what is to be done, and to be thought of.
        departures: what has some of it go at once, when that is committed; None: all of it waits.
    """
    departures = departures or Departures({})
    numbered = [
        (each, checked.ordinal, checked.intent, checked.data)
        for each in in_effect(caused)
        for checked in each.intents
    ]
    sends = [each for each in numbered if isinstance(each[2], Send)]
    reminders = [each for each in numbered if not isinstance(each[2], Send)]
    _record_sends(cursor, reaction, sends, departures)
    _record_reminders(cursor, reaction, reminders)
    departures.leaves_some |= bool(reminders)


Numbered = tuple[Caused, int, Any, str]


def _record_sends(
    cursor: Cursor[Any], reaction: str, sends: Sequence[Numbered], departures: Departures
) -> None:
    if not sends:
        return
    sources = [caused.source for caused, *_ in sends]
    columns = {
        "reaction": reaction,
        "keys": uuids([key_of(caused.cause, ordinal) for caused, ordinal, *_ in sends]),
        "subjects": uuids([caused.subject for caused, *_ in sends]),
        "targets": texts([send.target for _, _, send, _ in sends]),
        "actions": texts([send.action for _, _, send, _ in sends]),
        "data": texts([data for *_, data in sends]),
        "event_ids": texts([source.event_id if source else None for source in sources]),
        "partitions": smallints([source.partition if source else None for source in sources]),
        "positions": bigints([source.position if source else None for source in sources]),
        "ordinals": integers([ordinal for _, ordinal, *_ in sends]),
        "causes": uuids([caused.cause for caused, *_ in sends]),
        "are_adopted": booleans([caused.is_adopted for caused, *_ in sends]),
        "in_doubt": booleans([send.in_doubt for _, _, send, _ in sends]),
        "doubt_seconds": with_jitter(DOUBT_SECONDS),
        "lease_seconds": doubles(departures.leases(_who_may_go(sends))),
        "token": departures.token,
    }
    departures.note(cursor.execute(INSERT_INTENTS, columns, prepare=False).fetchall())


def _who_may_go(sends: Sequence[Numbered]) -> list[str | None]:
    """The target of the first of each subject; what may be done already is asked about first."""
    known = set[UUID]()
    found: list[str | None] = []
    for caused, _, send, _ in sends:
        is_first = caused.subject not in known
        known.add(caused.subject)
        may_be_done = caused.is_adopted or send.in_doubt
        found.append(send.target if is_first and not may_be_done else None)
    return found


def _record_reminders(cursor: Cursor[Any], reaction: str, changes: Sequence[Numbered]) -> None:
    gone = [each for each in changes if isinstance(each[2], Forget)]
    if gone:
        columns = {
            "reaction": reaction,
            "subjects": uuids([caused.subject for caused, *_ in gone]),
            "names": texts([forget.name for _, _, forget, _ in gone]),
        }
        cursor.execute(FORGET_REMINDERS, columns, prepare=False)
    kept = [each for each in changes if isinstance(each[2], Remind)]
    if kept:
        columns = {
            "reaction": reaction,
            "subjects": uuids([caused.subject for caused, *_ in kept]),
            "names": texts([remind.name for _, _, remind, _ in kept]),
            "keys": uuids([key_of(caused.cause, ordinal) for caused, ordinal, *_ in kept]),
            "due_at": timestamps([remind.due_at for _, _, remind, _ in kept]),
            "data": texts([data for *_, data in kept]),
            "are_adopted": booleans([caused.is_adopted for caused, *_ in kept]),
        }
        cursor.execute(WRITE_REMINDERS, columns, prepare=False)


def to_json(value: object) -> str:
    """The text of what is kept as JSON.

    Raises:
        TypeError, ValueError: it is not what JSON knows.
    """
    text = STRICT.encode(value)
    text.encode()  # half of a surrogate pair is no character
    if r"\u0000" in text.replace(r"\\", ""):
        raise ValueError("Postgres keeps no text with a NUL in it")
    return text
