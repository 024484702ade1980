"""What reactions could not do: see it, have it tried again, or do without it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection, Cursor
from psycopg.rows import class_row

from codebase.engine.reactions.reaction import Answer, Reaction, Send, Sent
from codebase.engine.reactions.recording import Caused, checked, record
from codebase.engine.reactions.store import REACTION_STORE
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
    RETURNING reaction, key, subject, target, action, data, attempts
"""
SKIP_REMINDER = "DELETE FROM reminder WHERE key = %(key)s AND reason IS NOT NULL"

PROMOTE = """
    UPDATE intent SET is_next = true
    WHERE NOT is_next AND number = (
        SELECT min(number) FROM intent
        WHERE reaction = %(reaction)s AND subject = %(subject)s AND ended_at IS NULL
    )
"""

ADOPT = "SELECT reaction.adopt()"

# Where the database came from, each may have been done since.
DOUBT_OPEN = "UPDATE intent SET in_doubt = true WHERE ended_at IS NULL AND NOT in_doubt"

LOCK_OPEN = """
    SELECT FROM subject
    WHERE (reaction, id) IN (SELECT reaction, subject FROM intent WHERE ended_at IS NULL)
    ORDER BY reaction, id
    FOR UPDATE
"""
SKIP_OPEN = """
    UPDATE intent
    SET state = 'skipped', ended_at = clock_timestamp(), is_next = false, token = NULL,
        reason = 'skipped when the log was adopted'
    WHERE ended_at IS NULL
    RETURNING reaction, key, subject, target, action, data, attempts
"""
LEFT_OUT = "an operator has it left out"
FORGET_REMINDERS = "DELETE FROM reminder"


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


def skip(settings: Settings, reactions: Sequence[Reaction], key: UUID) -> None:
    """Do without what is parked; what waits for it has its turn.

    Args:
        settings: the address of the write model's owner.
        reactions: those that there are; who takes refusals is told of this as of one.
        key: of what is parked.

    Raises:
        NotParkedError: nothing of this key is parked.
    """
    with _store(settings) as store:
        _change(store, key, SKIP, SKIP_REMINDER, reactions)


def _tell(
    cursor: Cursor[Any], reactions: Iterable[Reaction], left_out: Sequence[Sequence[Any]]
) -> None:
    """Write down what follows from it that these are left out, for subjects that are locked."""
    for reaction in reactions:
        if reaction.takes_refusals:
            caused = [_caused(reaction, row) for row in left_out if row[0] == reaction.name]
            record(cursor, reaction.name, caused)


def _caused(reaction: Reaction, row: Sequence[Any]) -> Caused:
    _, key, subject, target, action, data, attempts = row
    sent = Sent(key=key, subject=subject, send=Send(target, action, data), attempts=attempts)
    intents = reaction.outcome(sent, Answer(refused=LEFT_OUT))
    return Caused(subject=subject, cause=key, intents=checked(intents))


def adopt(settings: Settings, reactions: Sequence[Reaction], *, skip_open: bool) -> Adopted:
    """Let reactions act in a database that was restored or copied from elsewhere.

    Args:
        settings: the address of the write model's owner.
        reactions: those that there are; who takes refusals is told of what is left out.
        skip_open: do without what is noted and not done, reminders included: it was done, or will
            be, where the database came from.
    """
    with _store(settings) as store, store.transaction(), store.cursor() as cursor:
        skipped = reminders = 0
        if skip_open:
            cursor.execute(LOCK_OPEN)
            left_out = cursor.execute(SKIP_OPEN).fetchall()
            skipped = len(left_out)
            reminders = cursor.execute(FORGET_REMINDERS).rowcount
            _tell(cursor, reactions, left_out)
        else:
            cursor.execute(DOUBT_OPEN)
        cursor.execute(ADOPT)
    return Adopted(skipped=skipped, reminders=reminders)


def _store(settings: Settings) -> Connection:
    url = settings.required(REACTION_STORE.owner_url)
    return connect(url, "parked", options=REACTION_STORE.options)


def _change(
    store: Connection,
    key: UUID,
    intent: str,
    reminder: str,
    reactions: Sequence[Reaction] = (),
) -> None:
    """`reactions` are told what `intent` returns."""
    with store.transaction(), store.cursor() as cursor:
        found = cursor.execute(FIND, {"key": key}).fetchone()
        if found is None:
            raise NotParkedError(f"nothing of the key {key} is parked")
        names = {"key": key, "reaction": found[0], "subject": found[1]}
        cursor.execute(LOCK_SUBJECT, names)
        cursor.execute(intent.encode(), names)
        if reactions:
            _tell(cursor, reactions, cursor.fetchall())
        cursor.execute(reminder.encode(), names)
        cursor.execute(PROMOTE, names)
