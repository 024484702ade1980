"""What reactions could not do: see it, have it tried again, or do without it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
from psycopg import Connection, Cursor
from psycopg.rows import class_row

from codebase.engine.projections.blame import describe
from codebase.engine.reactions.keys import key_of
from codebase.engine.reactions.reaction import Answer, Reaction, Reminder, Send, Sent
from codebase.engine.reactions.recording import (
    Caused,
    checked,
    lock_subjects,
    record,
    write_states,
)
from codebase.engine.reactions.store import REACTION_STORE, is_not_taken
from codebase.foundation.postgres import connect
from codebase.foundation.settings import Settings
from codebase.operations import OperationError

LIST_PARKED = """
    SELECT intent.key, intent.reaction, intent.subject, intent.target, intent.action,
           intent.reason, intent.created_at, intent.attempts,
           (SELECT count(*) FROM intent AS later
            WHERE later.reaction = intent.reaction AND later.subject = intent.subject
              AND later.ended_at IS NULL AND later.number > intent.number) AS waiting
    FROM intent
    WHERE intent.state = 'parked'
    UNION ALL
    SELECT reminder.key, reminder.reaction, reminder.subject, 'reminder', reminder.name,
           reminder.reason, reminder.due_at, 0, 0
    FROM reminder
    WHERE reminder.reason IS NOT NULL
    ORDER BY created_at, key
"""

FIND = """
    SELECT reaction, subject FROM intent WHERE key = %(key)s AND state = 'parked'
    UNION ALL
    SELECT reaction, subject FROM reminder WHERE key = %(key)s AND reason IS NOT NULL
"""

# As everybody does who ends an intent, so that the next of the subject has its turn once.
LOCK_SUBJECT = """
    SELECT FROM subject WHERE reaction = %(reaction)s AND id = %(subject)s FOR UPDATE
"""

RETRY = """
    UPDATE intent SET state = 'waiting', attempts = 0, due_at = clock_timestamp()
    WHERE key = %(key)s AND state = 'parked'
"""
RETRY_REMINDER = "UPDATE reminder SET reason = NULL WHERE key = %(key)s"

SKIP = """
    UPDATE intent
    SET state = 'skipped', ended_at = clock_timestamp(), is_next = false, token = NULL
    WHERE key = %(key)s AND state = 'parked'
    RETURNING reaction, key, subject, target, action, data, attempts, is_adopted
"""
SKIP_REMINDER = "DELETE FROM reminder WHERE key = %(key)s AND reason IS NOT NULL"

PROMOTE = """
    UPDATE intent SET is_next = true, due_at = greatest(due_at, clock_timestamp())
    WHERE NOT is_next AND number = (
        SELECT min(number) FROM intent
        WHERE reaction = %(reaction)s AND subject = %(subject)s AND ended_at IS NULL
    )
"""

ADOPT = "SELECT reaction.adopt()"

# However much there is, it takes the time that it takes; and who stands still in a transaction has
# lost it after ten seconds.
TAKE_TIME = """
    SELECT set_config(name, value, true)
    FROM (VALUES ('statement_timeout', '0'), ('idle_in_transaction_session_timeout', '0'),
                 ('lock_timeout', '15s')) AS taken (name, value)
"""
# Whoever reads events has moved his checkpoint first: what he causes is written by now, and marked
# with the rest, or he learns of the mark.
WAIT_FOR_READERS = "LOCK TABLE projection_checkpoint IN EXCLUSIVE MODE"

# Where the database came from, each may have been done since, and so may all that follows: what
# becomes of these causes what is adopted as well, and so does what nobody has read yet.
ADOPT_INTENTS = "UPDATE intent SET in_doubt = true, is_adopted = true WHERE ended_at IS NULL"
ADOPT_REMINDERS = "UPDATE reminder SET is_adopted = true WHERE NOT is_adopted"
ADOPT_EVENTS = """
    INSERT INTO adopted_head AS known (partition, position)
    SELECT partition, position FROM log_head
    ON CONFLICT (partition) DO UPDATE SET position = excluded.position
"""

LOCK_OPEN = """
    SELECT FROM subject
    WHERE (reaction, id) IN (
        SELECT reaction, subject FROM intent WHERE ended_at IS NULL
        UNION ALL
        SELECT reaction, subject FROM reminder
    )
    ORDER BY reaction, id
    FOR UPDATE
"""
SKIP_OPEN = """
    UPDATE intent
    SET state = 'skipped', ended_at = clock_timestamp(), is_next = false, token = NULL,
        reason = 'skipped when the log was adopted'
    WHERE ended_at IS NULL AND reaction <> ALL (%(kept)s::text[])
    RETURNING reaction, key, subject, target, action, data, attempts, is_adopted
"""
LEFT_OUT = "an operator has it left out"
FORGET_REMINDERS = """
    DELETE FROM reminder WHERE reaction <> ALL (%(kept)s::text[])
    RETURNING reaction, key, subject, name, due_at, data, reason
"""

# What no reaction has read yet, or has parked, is as open as what is noted.
REMEMBER_ONLY = """
    INSERT INTO projection_checkpoint AS known (projector, partition, remembered_until)
    SELECT reaction.name, log_head.partition, log_head.position
    FROM unnest(%(reactions)s::text[]) AS reaction (name) CROSS JOIN log_head
    ON CONFLICT (projector, partition) DO UPDATE SET remembered_until = excluded.remembered_until
"""


class NotParkedError(OperationError):
    """There is nothing of this key that is parked."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ParkedIntent:
    """Something that could not be done, or a reminder that could not fire, and why."""

    key: UUID
    reaction: str
    subject: UUID
    target: str
    action: str
    reason: str
    created_at: datetime
    attempts: int
    waiting: int
    """How much waits for it."""

    def line(self) -> str:
        """All of it in a sentence."""
        return (
            f"{self.key} {self.action} at {self.target} for {self.subject}, by reaction"
            f" {self.reaction}: {self.attempts} attempts, {self.waiting} wait for it,"
            f" since {self.created_at}: {self.reason}"
        )

    def cells(self) -> dict[str, object]:
        """All of it as a row of a table: column -> text."""
        return {
            "key": self.key,
            "reaction": self.reaction,
            "subject": self.subject,
            "to do": f"{self.target} {self.action}",
            "wait for it": self.waiting,
            "since": f"{self.created_at:%Y-%m-%d %H:%M:%S%z}",
            "reason": self.reason,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Adopted:
    """What became of what was noted in a database before it was adopted."""

    skipped: int
    reminders: int
    untold: Sequence[str] = ()
    """A sentence for each that its reaction could not be told of."""


def list_parked(settings: Settings) -> list[ParkedIntent]:
    """All that reactions could not do, the oldest first."""
    with _store(settings) as store, store.cursor(row_factory=class_row(ParkedIntent)) as cursor:
        return cursor.execute(LIST_PARKED).fetchall()


def retry(settings: Settings, key: UUID | None) -> int:
    """Have what is parked tried again, by whoever is at work; without a key all of it.

    Returns:
        How much that is.

    Raises:
        NotParkedError: nothing of this key is parked.
    """
    if key is None:
        return _retry_all(settings)
    with _store(settings) as store:
        _change(store, key, RETRY, RETRY_REMINDER)
    return 1


def _retry_all(settings: Settings) -> int:
    """What somebody else was faster with is left to him."""
    keys = [each.key for each in list_parked(settings)]
    retried = 0
    with _store(settings) as store:
        for key in keys:
            with suppress(NotParkedError):
                _change(store, key, RETRY, RETRY_REMINDER)
                retried += 1
    return retried


def skip(settings: Settings, reactions: Sequence[Reaction], key: UUID) -> Sequence[str]:
    """Do without what is parked; what waits for it has its turn.

    Args:
        settings: the address of the write model's owner.
        reactions: those that there are; who takes refusals is told of this as of one.
        key: of what is parked.

    Returns:
        A sentence if its reaction could not be told of it: nothing follows then.

    Raises:
        NotParkedError: nothing of this key is parked.
    """
    with _store(settings) as store:
        return _change(store, key, SKIP, SKIP_REMINDER, reactions)


def _tell(
    cursor: Cursor[Any], reactions: Iterable[Reaction], left_out: Sequence[Sequence[Any]]
) -> list[str]:
    """Write down what follows from it that these are left out, for subjects that are locked.

    Returns:
        A sentence for each of which nothing follows, as its reaction fails.
    """
    untold: list[str] = []
    for reaction in reactions:
        if reaction.takes_refusals:
            mine = [row for row in left_out if row[0] == reaction.name]
            caused = [one for row in mine if (one := _caused(reaction, row, untold))]
            _record(cursor, reaction, caused, untold)
    return untold


def _caused(reaction: Reaction, row: Sequence[Any], untold: list[str]) -> Caused | None:
    _, key, subject, target, action, data, attempts, is_adopted = row
    sent = Sent(key=key, subject=subject, send=Send(target, action, data), attempts=attempts)
    try:
        intents = checked(reaction.outcome(sent, Answer(refused=LEFT_OUT)))
    except Exception as error:  # noqa: BLE001 - the boundary: it may be why this was parked
        untold.append(_untold(reaction, key, error))
        return None
    return Caused(subject=subject, cause=key, intents=intents, is_adopted=is_adopted)


def _record(
    cursor: Cursor[Any], reaction: Reaction, caused: Sequence[Caused], untold: list[str]
) -> None:
    """Write it down; of several that the store does not take together, those that it does."""
    try:
        with cursor.connection.transaction():
            record(cursor, reaction.name, caused)
    except (psycopg.Error, UnicodeError) as error:
        if not is_not_taken(error):
            raise
        if len(caused) == 1:
            untold.append(_untold(reaction, caused[0].cause, error))
            return
        for each in caused:
            _record(cursor, reaction, [each], untold)


def _untold(reaction: Reaction, key: UUID, error: Exception) -> str:
    return (
        f"{key} is left out, and reaction {reaction.name} could not be told, so that nothing"
        f" follows from it: {describe(error)}"
    )


def adopt(settings: Settings, reactions: Sequence[Reaction], *, skip_open: bool) -> Adopted:
    """Let reactions act in a database that was restored or copied from elsewhere.

    Targets are asked first about what is open, and about all that follows from it, from reminders,
    and from events that are in the log by now.

    Args:
        settings: the address of the write model's owner.
        reactions: those that there are; who takes refusals is told of what is left out.
        skip_open: do without what is noted and not done, reminders included, and without what
            events that are not read yet, or are parked, would cause: it was done, or will be, where
            the database came from. What stays in the log is done nowhere else, and kept.
    """
    with _store(settings) as store, store.transaction(), store.cursor() as cursor:
        left_out: list[Any] = []
        forgotten: list[Any] = []
        untold: list[str] = []
        kept = {"kept": [each.name for each in reactions if each.stays_in_the_log]}
        cursor.execute(TAKE_TIME)
        cursor.execute(WAIT_FOR_READERS)
        cursor.execute(LOCK_OPEN)
        cursor.execute(ADOPT_INTENTS)
        cursor.execute(ADOPT_REMINDERS)
        cursor.execute(ADOPT_EVENTS)
        if skip_open:
            left_out = cursor.execute(SKIP_OPEN, kept).fetchall()
            names = [each.name for each in reactions if not each.stays_in_the_log]
            cursor.execute(REMEMBER_ONLY, {"reactions": names})
        untold += _tell(cursor, reactions, left_out)
        if skip_open:
            # Those as well that follow from what was left out just now.
            forgotten = cursor.execute(FORGET_REMINDERS, kept).fetchall()
            never_sent = _never_sent(cursor, reactions, forgotten, untold)
            untold += _tell(cursor, reactions, never_sent)
        cursor.execute(ADOPT)
    return Adopted(skipped=len(left_out), reminders=len(forgotten), untold=untold)


def _never_sent(
    cursor: Cursor[Any],
    reactions: Iterable[Reaction],
    forgotten: Sequence[Sequence[Any]],
    untold: list[str],
) -> list[Sequence[Any]]:
    """What reminders would have sent, as `SKIP_OPEN` tells it; their subjects think it was sent."""
    found: list[Sequence[Any]] = []
    for reaction in reactions:
        own = [row for row in forgotten if row[0] == reaction.name and row[-1] is None]
        if not own or not reaction.takes_refusals:
            continue
        subjects = {row[2] for row in own}
        states = lock_subjects(cursor, reaction.name, subjects, add=())
        for _, key, subject, name, due_at, data, _ in sorted(own, key=lambda row: row[4]):
            reminder = Reminder(subject=subject, name=name, due_at=due_at, data=data)
            try:
                intents = reaction.remind(reminder, states[subject])
                checked(intents)
                states[subject] = reaction.reminded(reminder, states[subject])
            except Exception as error:  # noqa: BLE001 - the boundary, as where reminders fire
                untold.append(_untold(reaction, key, error))
                continue
            found += [
                (
                    reaction.name,
                    key_of(key, nth),
                    subject,
                    send.target,
                    send.action,
                    send.data,
                    0,
                    True,
                )
                for nth, send in enumerate(intents)
                if isinstance(send, Send)
            ]
        if reaction.remembers:
            write_states(cursor, reaction.name, states)
    return found


def _store(settings: Settings) -> Connection:
    url = settings.required(REACTION_STORE.owner_url)
    return connect(url, "parked", options=REACTION_STORE.options)


def _change(
    store: Connection,
    key: UUID,
    intent: str,
    reminder: str,
    reactions: Sequence[Reaction] = (),
) -> list[str]:
    """`reactions` are told what `intent` returns; a sentence for each that could not be."""
    untold: list[str] = []
    with store.transaction(), store.cursor() as cursor:
        found = cursor.execute(FIND, {"key": key}).fetchone()
        if found is None:
            raise NotParkedError(f"nothing of the key {key} is parked")
        names = {"key": key, "reaction": found[0], "subject": found[1]}
        cursor.execute(LOCK_SUBJECT, names)
        cursor.execute(intent.encode(), names)
        if reactions:
            untold = _tell(cursor, reactions, cursor.fetchall())
        cursor.execute(reminder.encode(), names)
        cursor.execute(PROMOTE, names)
    return untold
