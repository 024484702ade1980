"""Whether what reactions have noted fits the log, and fits together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from codebase.engine.log.codec import decode
from codebase.engine.log.events import RecordedEvent
from codebase.engine.log.extent import read_log_id
from codebase.engine.messages.command_message import SENDER
from codebase.engine.reactions.bus_target import ACTORS, intent_of
from codebase.engine.reactions.keys import cause_of_event, key_of
from codebase.engine.reactions.reaction import Happened, Reaction, Send
from codebase.foundation.arrays import bigints, smallints, texts, timestamps, uuids
from codebase.model.aggregate import Aggregate
from codebase.operations.verify.findings import Findings
from codebase.operations.verify.positions import check_checkpoints
from codebase.operations.verify.streams import place

SLICE = 5_000
ORDINALS_LOOKED_AT = 8
"""Of what an event has caused: another release may have it in another place."""

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
# By message anybody commands; and what was sent in vain at last may have been in doubt before. So
# what came by message says no more than that its intent, if there is one, was tried.
FIND_UNEXPECTED = """
    SELECT acted.place, acted.key, intent.number
    FROM unnest(%(places)s::text[], %(keys)s::uuid[], %(is_part)s::boolean[],
                %(is_message)s::boolean[], %(recorded_at)s::timestamptz[])
        AS acted (place, key, is_part, is_message, recorded_at)
    LEFT JOIN reaction.intent ON intent.key = acted.key
    WHERE (intent.key IS NULL AND NOT acted.is_message
           AND acted.recorded_at > now() - make_interval(days => %(days)s))
       OR (intent.ended_at IS NULL AND NOT intent.in_doubt AND NOT acted.is_part
           AND (intent.reason IS NULL OR NOT acted.is_message))
"""

# What was read, and neither set aside nor only remembered, has caused something that is known:
# until a day before it may be forgotten, for clocks differ.
# One effect of an event is enough: another release may have caused more by it, or less.
FIND_MISSING = """
    SELECT expected.place, expected.reaction
    FROM unnest(%(places)b::text[], %(reactions)b::text[], %(partitions)b::smallint[],
                %(positions)b::bigint[], %(recorded_at)b::timestamptz[], %(keys)b::uuid[])
        AS expected (place, reaction, partition, position, recorded_at, key)
    JOIN reaction.projection_checkpoint AS checkpoint
        ON checkpoint.projector = expected.reaction AND checkpoint.partition = expected.partition
    LEFT JOIN reaction.intent ON intent.key = expected.key
    WHERE expected.position <= checkpoint.position
      AND expected.position > checkpoint.remembered_until
      AND expected.recorded_at > now() - make_interval(days => %(days)s - 1)
      AND NOT EXISTS (
          SELECT FROM reaction.parked_event AS parked
          WHERE parked.projector = expected.reaction AND parked.partition = expected.partition
            AND parked.position = expected.position
      )
      AND NOT EXISTS (
          SELECT FROM reaction.discarded_event AS discarded
          WHERE discarded.projector = expected.reaction
            AND discarded.partition = expected.partition
            AND discarded.position = expected.position
      )
    GROUP BY expected.place, expected.reaction
    HAVING count(intent.key) = 0
    ORDER BY expected.place, expected.reaction
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
        self._decided: list[tuple[RecordedEvent, UUID, str]] = []

    def stream(self, _stream_id: UUID, recorded: Sequence[RecordedEvent]) -> None:
        """The next stream, with all its events."""
        for event in recorded:
            if event.idempotence_key and _may_be_of_a_reaction(event.meta.get("actor", "")):
                with suppress(ValueError):  # others send messages as well, by keys of their own
                    self._decided.append((event, *intent_of(event.idempotence_key)))

    def end(self) -> None:
        """There are no more streams in the range."""
        if not self._decided:
            return
        events, keys, parts = (list(column) for column in zip(*self._decided, strict=True))
        columns = {
            "places": [place(event) for event in events],
            "keys": keys,
            "is_part": [bool(part) for part in parts],
            "is_message": [event.meta["actor"] == SENDER.name for event in events],
            "recorded_at": [event.recorded_at for event in events],
            "days": self._days,
        }
        self._decided.clear()
        for where, key, number in self._log.execute(FIND_UNEXPECTED, columns).fetchall():
            if number is None:
                self._findings.add(f"log: {where} was caused by the intent {key}, which is unknown")
            else:
                self._findings.add(f"log: {where} is what intent {number} says was never done")


class CausedCheck:
    """What the log's events cause is noted; of reactions that need no state to say what that is.

    Args:
        log: at the end of each range in a transaction, the streams' snapshot.
        reactions: those that there are.
        days: for which a reaction knows what became of something.
        findings: told what is missing.
    """

    def __init__(
        self,
        log: Connection[Any],
        reactions: Sequence[Reaction],
        days: int,
        findings: Findings,
    ) -> None:
        self._log = log
        self._log_id = read_log_id(log)
        self._days = days
        self._findings = findings
        self._expected: list[tuple[str, str, int, int, datetime, UUID]] = []
        self._reacting = defaultdict[
            tuple[str, str], list[tuple[Reaction, Aggregate[Any, Any, Any]]]
        ](list)
        for reaction in reactions:
            for aggregate in () if reaction.remembers else reaction.aggregates:
                for each in aggregate.events:
                    if reaction.events is None or each in reaction.events:
                        kind = (aggregate.category, each.__name__)
                        self._reacting[kind].append((reaction, aggregate))

    def stream(self, _stream_id: UUID, recorded: Sequence[RecordedEvent]) -> None:
        """The next stream, with all its events."""
        for event in recorded:
            for reaction, aggregate in self._reacting.get((event.category, event.type), ()):
                if _sends_something(reaction, aggregate, event):
                    self._expect(reaction.name, event)

    def _expect(self, reaction: str, event: RecordedEvent) -> None:
        event_id = event.meta.get("event_id") or place(event)
        cause = cause_of_event(reaction, self._log_id, event_id)
        where = (place(event), reaction, event.partition, event.position, event.recorded_at)
        self._expected += [
            (*where, key_of(cause, ordinal)) for ordinal in range(ORDINALS_LOOKED_AT)
        ]

    def end(self) -> None:
        """There are no more streams in the range."""
        if not self._expected:
            return
        places, names, partitions, positions, moments, keys = map(
            list, zip(*self._expected, strict=True)
        )
        self._expected.clear()
        columns = {
            "places": texts(places),
            "reactions": texts(names),
            "partitions": smallints(partitions),
            "positions": bigints(positions),
            "recorded_at": timestamps(moments),
            "keys": uuids(keys),
            "days": self._days,
        }
        for where, name in self._log.execute(FIND_MISSING, columns).fetchall():
            self._findings.add(f"log: {where} causes something in reaction {name}, which has none")


def _sends_something(
    reaction: Reaction, aggregate: Aggregate[Any, Any, Any], event: RecordedEvent
) -> bool:
    """Whether an event has anything sent; not if its stream is parked for it, or would be."""
    try:
        happened = Happened(
            event=decode(event, aggregate),
            stream_id=event.stream_id,
            version=event.version,
            recorded_at=event.recorded_at,
        )
        if reaction.subject(happened) is None:
            return False
        return any(isinstance(each, Send) for each in reaction.caused_by(happened, None))
    except Exception:  # noqa: BLE001 - the boundary: whatever it raises, its stream is parked
        return False


def _may_be_of_a_reaction(actor: str) -> bool:
    """By the bus a reaction commands in its own name, by message in that of all who do."""
    return actor.startswith(ACTORS) or actor == SENDER.name


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
