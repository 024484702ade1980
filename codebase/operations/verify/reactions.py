"""Whether what reactions have noted fits the log, and fits together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from psycopg import Connection

from codebase.engine.log.events import RecordedEvent
from codebase.engine.log.extent import read_log_id
from codebase.engine.reactions.bus_target import ACTORS, intent_of
from codebase.engine.reactions.keys import cause_of_event, key_of
from codebase.engine.reactions.reaction import Reaction
from codebase.operations.verify.findings import Findings
from codebase.operations.verify.positions import check_checkpoints
from codebase.operations.verify.streams import place

SLICE = 5_000

# Whoever has noted something, also one that this release does not have.
READ_NAMES = """
    SELECT projector FROM reaction.projection_checkpoint
    UNION SELECT reaction FROM reaction.subject
    UNION SELECT reaction FROM reaction.intent
    UNION SELECT reaction FROM reaction.reminder
"""

COUNT_OPEN = """
    SELECT (SELECT count(*) FROM reaction.intent
            WHERE reaction = %(reaction)s AND ended_at IS NULL),
           (SELECT count(*) FROM reaction.reminder WHERE reaction = %(reaction)s)
"""

READ_CHECKPOINTS = """
    SELECT partition, position FROM reaction.projection_checkpoint WHERE projector = %(reaction)s
"""

# Events of the first releases have no id, and are noted by their place.
READ_INTENTS = """
    SELECT intent.number, intent.key, intent.cause, intent.ordinal, intent.event_id,
           intent.partition, intent.position,
           coalesce(event.meta ->> 'event_id', event.partition || ':' || event.position)
    FROM reaction.intent
    LEFT JOIN event
        ON event.partition = intent.partition AND event.position = intent.position
    WHERE intent.reaction = %(reaction)s AND intent.number > %(after)s
    ORDER BY intent.number
    LIMIT %(limit)s
"""

# What is done is noted for some days; and who commands notes before that the intent is in doubt.
# What it comes to in parts may have been done in part, or say only that it is not done yet.
FIND_UNEXPECTED = """
    SELECT acted.place, acted.key, intent.number
    FROM unnest(%(places)s::text[], %(keys)s::uuid[], %(is_part)s::boolean[],
                %(recorded_at)s::timestamptz[])
        AS acted (place, key, is_part, recorded_at)
    LEFT JOIN reaction.intent ON intent.key = acted.key
    WHERE (intent.key IS NULL AND acted.recorded_at > now() - make_interval(days => %(days)s))
       OR (intent.ended_at IS NULL AND NOT intent.in_doubt AND NOT acted.is_part)
"""

# The first that is not done has its turn, and nobody else.
FIND_WRONG_TURNS = """
    SELECT number FROM (
        SELECT number, is_next,
               row_number() OVER (PARTITION BY subject ORDER BY number) = 1 AS is_first
        FROM reaction.intent
        WHERE reaction = %(reaction)s AND ended_at IS NULL
    ) AS open
    WHERE is_next <> is_first
    ORDER BY number
"""

FIND_UNKNOWN_SUBJECTS = """
    SELECT DISTINCT found.subject
    FROM (
        SELECT subject FROM reaction.intent WHERE reaction = %(reaction)s AND ended_at IS NULL
        UNION ALL
        SELECT subject FROM reaction.reminder WHERE reaction = %(reaction)s
    ) AS found
    WHERE NOT EXISTS (
        SELECT FROM reaction.subject AS known
        WHERE known.reaction = %(reaction)s AND known.id = found.subject
    )
"""


class DecidedCheck:
    """What the log holds of what reactions had decided is what they have noted as done, or tried.

    Args:
        log: at the end of each range in a transaction, the streams' snapshot.
        days: for which a reaction knows what became of something.
        findings: told what differs.
    """

    def __init__(self, log: Connection[Any], days: int, findings: Findings) -> None:
        self._log = log
        self._days = days
        self._findings = findings
        self._decided: list[RecordedEvent] = []

    def stream(self, _stream_id: UUID, recorded: Sequence[RecordedEvent]) -> None:
        """The next stream, with all its events."""
        self._decided += [
            event
            for event in recorded
            if event.idempotence_key and event.meta.get("actor", "").startswith(ACTORS)
        ]

    def end(self) -> None:
        """There are no more streams in the range."""
        if not self._decided:
            return
        intents = [intent_of(event.idempotence_key or "") for event in self._decided]
        columns = {
            "places": [place(event) for event in self._decided],
            "keys": [intent for intent, _ in intents],
            "is_part": [bool(part) for _, part in intents],
            "recorded_at": [event.recorded_at for event in self._decided],
            "days": self._days,
        }
        self._decided.clear()
        for where, key, number in self._log.execute(FIND_UNEXPECTED, columns).fetchall():
            if number is None:
                self._findings.add(f"log: {where} was caused by the intent {key}, which is unknown")
            else:
                self._findings.add(f"log: {where} is what intent {number} says was never done")


def read_reached(
    log: Connection[Any], reactions: Sequence[Reaction]
) -> Mapping[str, Mapping[int, int]]:
    """How far each reaction has read, those included that have noted something and are no more."""
    noted = {name for (name,) in log.execute(READ_NAMES).fetchall()}
    return {
        name: dict(log.execute(READ_CHECKPOINTS, {"reaction": name}).fetchall())
        for name in sorted(noted | {each.name for each in reactions})
    }


def check_reactions(
    log: Connection[Any],
    reactions: Sequence[Reaction],
    reached: Mapping[str, Mapping[int, int]],
    bounds: Mapping[int, int],
    findings: Findings,
) -> None:
    """Compare what reactions have noted with the log.

    Args:
        log: a connection that may read schema `reaction` as well.
        reactions: those that there are.
        reached: how far each had read before the bounds were read, by its name; these are looked
            at, and whatever they send to.
        bounds: partition -> the last position.
        findings: are told.
    """
    log_id = read_log_id(log)
    known = {each.name for each in reactions}
    for name, checkpoints in reached.items():
        check_checkpoints(f"reaction {name}", bounds, checkpoints, findings)
        _check_intents(log, name, log_id, findings)
        key = {"reaction": name}
        for (number,) in log.execute(FIND_WRONG_TURNS, key).fetchall():
            findings.add(f"reaction {name}: intent {number} has its turn out of order")
        for (subject,) in log.execute(FIND_UNKNOWN_SUBJECTS, key).fetchall():
            findings.add(f"reaction {name}: nothing is known of the subject {subject}")
        if name not in known:
            _check_abandoned(log, name, findings)


def _check_abandoned(log: Connection[Any], name: str, findings: Findings) -> None:
    """What a reaction that is no more has left undone, nobody does."""
    counted = log.execute(COUNT_OPEN, {"reaction": name}).fetchone()
    if counted is not None and any(counted):
        findings.add(
            f"reaction {name}: {counted[0]} intents and {counted[1]} reminders wait,"
            " and no service has this reaction"
        )


def _check_intents(log: Connection[Any], name: str, log_id: str, findings: Findings) -> None:
    """Each comes from an event that the log holds, and is named after it."""
    after = 0
    while True:
        key = {"reaction": name, "after": after, "limit": SLICE}
        rows = log.execute(READ_INTENTS, key).fetchall()
        for number, own_key, cause, ordinal, event_id, partition, position, there in rows:
            whose = f"reaction {name}: intent {number}"
            if event_id is not None and there != event_id:
                findings.add(f"{whose} comes from {partition}:{position}, where another event is")
            named = cause if event_id is None else cause_of_event(name, log_id, event_id)
            if own_key != key_of(named, ordinal) or named != cause:
                findings.add(f"{whose} is not named after what causes it")
        if len(rows) < SLICE:
            return
        after = rows[-1][0]
