"""Intents in the store: who may take which, and what is written when they come back."""

from __future__ import annotations

import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import psycopg
from psycopg import Connection, Cursor
from pydantic_core import from_json

from codebase.engine.projections.blame import describe
from codebase.engine.reactions.attempt import Attempt, Ended
from codebase.engine.reactions.departures import Departures
from codebase.engine.reactions.errands import Errands
from codebase.engine.reactions.reach import Reach
from codebase.engine.reactions.reaction import Answer, Patience, Reaction, Send, Sent
from codebase.engine.reactions.recording import Caused, checked, lock_subjects, record
from codebase.engine.reactions.store import is_locked, is_not_taken
from codebase.engine.reactions.taken import Returned, Taken
from codebase.foundation.arrays import bigints, booleans, doubles, integers, texts, uuids
from codebase.foundation.backoff import doubled, with_jitter
from codebase.foundation.failpoints import failpoint

FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 60.0
FORGIVEN_KNOWN = 10_000
"""For so many intents a process knows how often they were tried in vain; then it begins anew."""

# Who takes something notes that first, and that it is in doubt: whoever finds it after the end of
# the lease asks what became of it. All times are the server's.
# What is compared with an index is the statement's: clock_timestamp() could change from row to row,
# so that every row would be looked at. Where it begins is said by `reach`.
TAKE = """
    WITH due AS MATERIALIZED (
        SELECT number, in_doubt, token IS NOT NULL AS is_lost, due_at FROM intent
        WHERE reaction = %(reaction)s AND target = %(target)s
          AND is_next AND state = 'waiting' AND due_at <= statement_timestamp()
          AND due_at >= coalesce(
              statement_timestamp() - make_interval(secs => %(back_seconds)s), '-infinity'
          )
        ORDER BY due_at
        LIMIT %(limit)s
        FOR UPDATE SKIP LOCKED
    )
    UPDATE intent
    SET token = %(token)s, attempts = attempts + 1, in_doubt = true,
        due_at = clock_timestamp() + make_interval(secs => %(lease_seconds)s)
    FROM due
    WHERE intent.number = due.number
    RETURNING intent.number, intent.key, intent.subject, intent.target, intent.action,
              intent.data::text, intent.attempts, due.in_doubt, due.is_lost,
              extract(epoch FROM clock_timestamp() - intent.created_at)::float8,
              extract(epoch FROM statement_timestamp() - due.due_at)::float8
"""

# Whose lease is over has another token, or none, and changes nothing. Whether it is adopted is told
# now, and not when it was taken: a log may be adopted in between. What is adopted is in doubt until
# it is done: where the log came from it may be done at any time.
SETTLE = """
    UPDATE intent
    SET state = settled.state, reason = settled.reason,
        in_doubt = settled.in_doubt OR intent.is_adopted,
        attempts = intent.attempts - settled.forgiven, token = NULL,
        due_at = clock_timestamp() + make_interval(secs => settled.pause_seconds),
        ended_at = CASE WHEN settled.state = 'done' THEN clock_timestamp() END,
        is_next = settled.state <> 'done'
    FROM unnest(%(numbers)b::bigint[], %(tokens)b::uuid[], %(states)b::text[], %(reasons)b::text[],
                %(in_doubt)b::boolean[], %(forgiven)b::integer[], %(pauses)b::float8[])
        AS settled (number, token, state, reason, in_doubt, forgiven, pause_seconds)
    WHERE intent.number = settled.number AND intent.token = settled.token
    RETURNING intent.number, intent.subject, intent.is_adopted, (
        SELECT true FROM intent AS other
        WHERE other.reaction = intent.reaction AND other.subject = intent.subject
          AND other.ended_at IS NULL AND other.number <> intent.number
        ORDER BY other.number
        LIMIT 1
    ) IS NOT NULL
"""

# The next of each subject has its turn, and is due from now on: nobody looks far back. Planned
# anew: a plan from when the table was small would go through all of it.
PROMOTE = """
    UPDATE intent SET is_next = true, due_at = greatest(due_at, clock_timestamp())
    FROM unnest(%(subjects)b::uuid[]) AS concerned (subject)
    CROSS JOIN LATERAL (
        SELECT number FROM intent
        WHERE reaction = %(reaction)s AND intent.subject = concerned.subject AND ended_at IS NULL
        ORDER BY number
        LIMIT 1
    ) AS first
    WHERE intent.number = first.number AND NOT intent.is_next
"""

# Who was tried while the target was away rests for as long as it was tried in vain.
# What the target was given and did not answer keeps its own pause: it may be what makes it hang.
HURRY = """
    UPDATE intent SET due_at = statement_timestamp()
    WHERE reaction = %(reaction)s AND target = %(target)s
      AND is_next AND state = 'waiting' AND token IS NULL AND NOT in_doubt
      AND due_at > statement_timestamp()
"""

# NULL when nothing is due soon: who looks further goes through the leases of all that was done. Of
# each index it takes the first entry.
UNTIL_DUE = """
    SELECT extract(epoch FROM least(
        (SELECT min(due_at) FROM reminder WHERE reaction = %(reaction)s AND reason IS NULL),
        (SELECT min(first.due_at)
         FROM unnest(%(targets)b::text[], %(back_seconds)b::float8[]) AS known (target, back)
         CROSS JOIN LATERAL (
             SELECT due_at FROM intent
             WHERE reaction = %(reaction)s AND target = known.target
               AND is_next AND state = 'waiting'
               AND due_at <= statement_timestamp() + make_interval(secs => %(within_seconds)s)
               AND due_at >= coalesce(
                   statement_timestamp() - make_interval(secs => known.back), '-infinity'
               )
             ORDER BY due_at
             LIMIT 1
         ) AS first)
    ) - statement_timestamp())::float8
"""

FORGET_DONE = """
    DELETE FROM intent WHERE number IN (
        SELECT number FROM intent
        WHERE reaction = %(reaction)s
          AND ended_at < statement_timestamp() - make_interval(days => %(days)s)
        ORDER BY ended_at
        LIMIT %(limit)s
        FOR UPDATE SKIP LOCKED
    )
"""


@dataclass(kw_only=True, slots=True)
class _Settled:
    """What is to be written of an intent; `caused` if it has an outcome."""

    returned: Returned
    state: str
    reason: str | None = None
    in_doubt: bool = False
    forgiven: int = 0
    pause_seconds: float = 0.0
    caused: Caused | None = None


class _Ours(NamedTuple):
    """What was settled by whoever had its lease; whether its subject has others that wait."""

    subject: UUID
    is_adopted: bool
    has_others: bool


class Desk:
    """Gives out one reaction's intents and takes them back.

    Args:
        reaction: whose they are.
        attempts_max: how often something is tried at a target that answers.
        clock: seconds that only ever grow.
        errands: target -> the way to it of what follows from an answer, and need not wait.
    """

    def __init__(
        self,
        reaction: Reaction,
        attempts_max: int,
        clock: Callable[[], float] = time.monotonic,
        *,
        errands: Mapping[str, Errands] | None = None,
    ) -> None:
        self._reaction = reaction
        self._errands = errands or {}
        self._attempts_max = attempts_max
        self._clock = clock
        # How often it was tried in vain and for nothing: that is no attempt, but pauses grow by it.
        self._forgiven = Counter[int]()
        self._reaches = defaultdict[str, Reach](Reach)

    def take(
        self, store: Connection[Any], target: str, limit: int, lease_seconds: float
    ) -> list[Taken]:
        """At most so many intents for a target, each the first of its subject.

        What has ended the process of everybody who tried it is parked instead.
        """
        taken = self._take(store, target, limit, lease_seconds)
        deadly = [each for each in taken if self._is_deadly(each)]
        if deadly:
            self._write(store, [_parked_as_deadly(each) for each in deadly])
        return [each for each in taken if not self._is_deadly(each)]

    def _is_deadly(self, taken: Taken) -> bool:
        """Whoever comes back compares as well; so more than that are tried by those who did not."""
        patience = self._patience_for(taken)
        is_over = patience is None or taken.sent.age_seconds > patience.at_most_seconds
        return taken.is_lost and is_over and taken.sent.attempts > self._attempts_max

    def _patience_for(self, taken: Taken) -> Patience | None:
        return self._reaction.patience.get(taken.sent.send.target)

    def _take(
        self, store: Connection[Any], target: str, limit: int, lease_seconds: float
    ) -> list[Taken]:
        token = uuid4()
        began = self._clock()
        ends_at = began + lease_seconds
        reach = self._reaches[target]
        back = reach.back_seconds(began)
        parameters = {
            "reaction": self._reaction.name,
            "target": target,
            "limit": limit,
            "token": token,
            "lease_seconds": lease_seconds,
            "back_seconds": back,
        }
        rows = store.execute(TAKE, parameters, prepare=True).fetchall()
        left = min(row[-1] for row in rows) if len(rows) == limit else 0.0
        reach.taken(back, began, self._clock(), left)
        if rows:
            failpoint("reaction_after_taking")
        return [
            Taken(
                number=number,
                token=token,
                ends_at=ends_at,
                is_lost=is_lost,
                sent=Sent(
                    key=key,
                    subject=subject,
                    send=Send(to, action, from_json(data)),
                    attempts=attempts,
                    age_seconds=age,
                    in_doubt=in_doubt,
                ),
            )
            for number, key, subject, to, action, data, attempts, in_doubt, is_lost, age, _ in rows
        ]

    def settle(self, store: Connection[Any], returned: Sequence[Returned]) -> list[Returned]:
        """Write down how attempts ended, together with what follows from that; all or nothing.

        Returns:
            Those whose subjects somebody else keeps: nothing is written of them yet.
        """
        settled, locked = [self._judge(each) for each in returned], list[_Settled]()
        try:
            self._write(store, settled)
        except (psycopg.Error, UnicodeError) as error:
            if not is_not_taken(error) and not is_locked(error):
                raise
            # One of them holds what the store does not take, or waits for somebody; the others are
            # not to wait for it.
            locked = [each for each in settled if not self._write_alone(store, each)]
        self._note_forgiven([each for each in settled if each not in locked])
        return [each.returned for each in locked]

    def hurry(self, store: Connection[Any], target: str) -> None:
        """The target answers again: whoever rests because it was away is due at once."""
        store.execute(HURRY, {"reaction": self._reaction.name, "target": target})

    @property
    def is_behind(self) -> bool:
        """Whether somebody who only looked has found what those who take would not see by now."""
        return any(reach.is_behind for reach in self._reaches.values())

    def seconds_until_due(
        self, store: Connection[Any], targets: Iterable[str], within_seconds: float
    ) -> float:
        """Until the next reminder or intent for one of these is due; infinite if none is soon.

        Args:
            store: a connection.
            targets: those that may be sent to.
            within_seconds: what "soon" is; that of an intent which is due later is not told.
        """
        began = self._clock()
        backs = {each: self._reaches[each].back_seconds_of_a_glance(began) for each in targets}
        what = {
            "reaction": self._reaction.name,
            "targets": texts(list(backs)),
            "back_seconds": doubles(list(backs.values())),
            "within_seconds": within_seconds,
        }
        row = store.execute(UNTIL_DUE, what).fetchone()
        seconds = math.inf if row is None or row[0] is None else row[0]
        for target, back in backs.items():
            self._reaches[target].glanced(back, began, self._clock(), is_due=seconds <= 0)
        return seconds

    def forget_done(self, store: Connection[Any], days: int, limit: int, seconds: float) -> bool:
        """Remove what was done so many days ago, `limit` at a time and for about so many seconds.

        Returns:
            Whether that was all.
        """
        what = {"reaction": self._reaction.name, "days": days, "limit": limit}
        ends_at = self._clock() + seconds
        while store.execute(FORGET_DONE, what).rowcount == limit:
            if self._clock() >= ends_at:
                return False
        return True

    def _note_forgiven(self, settled: Sequence[_Settled]) -> None:
        for each in settled:
            number = each.returned.taken.number
            if each.forgiven:
                self._forgiven[number] += each.forgiven
            else:
                del self._forgiven[number]
        if len(self._forgiven) > FORGIVEN_KNOWN:
            self._forgiven.clear()

    def _write_alone(self, store: Connection[Any], settled: _Settled) -> bool:
        """Whether it is written; otherwise its subject is locked."""
        try:
            self._write(store, [settled])
        except (psycopg.Error, UnicodeError) as error:
            if is_locked(error):
                return False
            if not is_not_taken(error):
                raise
            self._write(store, [_parked(settled.returned, describe(error))])
        return True

    def _write(self, store: Connection[Any], settled: Sequence[_Settled]) -> None:
        departures = Departures(self._errands)
        try:
            with store.transaction(), store.cursor() as cursor:
                self._write_in(cursor, settled, departures)
                failpoint("reaction_before_outcome_commit")
        except BaseException:
            departures.cancel()
            raise
        failpoint("reaction_after_outcome_commit")
        departures.start()

    def _write_in(
        self, cursor: Cursor[Any], settled: Sequence[_Settled], departures: Departures
    ) -> None:
        subjects = {each.returned.taken.sent.subject for each in settled}
        # They became known when this was caused.
        lock_subjects(cursor, self._reaction.name, subjects, add=())
        ours = _update(cursor, settled)
        caused = [
            replace(each.caused, is_adopted=ours[each.returned.taken.number].is_adopted)
            for each in settled
            if each.caused and each.caused.intents and each.returned.taken.number in ours
        ]
        record(cursor, self._reaction.name, caused, departures)
        if has_next := [each.subject for each in ours.values() if each.has_others]:
            self._promote(cursor, has_next)

    def _promote(self, cursor: Cursor[Any], subjects: Collection[UUID]) -> None:
        concerned = {"reaction": self._reaction.name, "subjects": uuids(sorted(subjects))}
        cursor.execute(PROMOTE, concerned, prepare=False)

    def _judge(self, returned: Returned) -> _Settled:
        answer = returned.attempt.answer
        if returned.attempt.stopped_for is not None:
            return _stopped(returned, returned.attempt.stopped_for)
        if answer is None:
            patience = self._patience_for(returned.taken)
            if patience is None or returned.attempt.never_began:
                return self._judge_failure(returned)
            if returned.taken.sent.age_seconds < patience.at_most_seconds:
                return _again(returned, patience)
            answer = Answer(refused=f"given up: {returned.attempt.reason}")
        if answer.refused is not None and not self._reaction.takes_refusals:
            return _parked(returned, f"refused: {answer.refused}")
        return self._judge_answer(returned, answer)

    def _judge_answer(self, returned: Returned, answer: Answer) -> _Settled:
        sent = returned.taken.sent
        try:
            intents = checked(self._reaction.outcome(sent, answer))
        except Exception as error:  # noqa: BLE001 - the boundary between neighbours
            return _parked(returned, f"what follows from the answer: {describe(error)}")
        caused = Caused(subject=sent.subject, cause=sent.key, intents=intents)
        return _Settled(returned=returned, state="done", reason=answer.refused, caused=caused)

    def _judge_failure(self, returned: Returned) -> _Settled:
        attempt, tried = returned.attempt, returned.taken.sent.attempts
        is_to_blame = self._is_to_blame(returned)
        if tried >= self._attempts_max and is_to_blame:
            return _parked(returned, f"{tried} attempts, the last: {attempt.reason}")
        return _Settled(
            returned=returned,
            state="waiting",
            reason=attempt.reason,
            in_doubt=_is_in_doubt(attempt),
            forgiven=0 if is_to_blame else 1,
            pause_seconds=pause_after(tried + self._forgiven[returned.taken.number]),
        )

    def _is_to_blame(self, returned: Returned) -> bool:
        """Nobody is for a target that is away, or that lets nobody in, or that has to be asked."""
        if returned.attempt.is_ours:
            return False
        if returned.taken.sent.send.target in self._reaction.insists_on:
            return False
        ended = returned.attempt.ended
        if ended in {Ended.IN_DOUBT, Ended.NOT_ALLOWED}:
            return returned.target_answers
        return ended is Ended.FAILED


def _stopped(returned: Returned, seconds: float) -> _Settled:
    """An orderly end is no attempt: a process may end often while a target is slow."""
    return _Settled(
        returned=returned,
        state="waiting",
        reason=returned.attempt.reason,
        in_doubt=True,
        forgiven=1,
        pause_seconds=seconds,
    )


def _again(returned: Returned, patience: Patience) -> _Settled:
    """Later and later; the last attempt is when patience ends."""
    tried, left = (
        returned.taken.sent.attempts,
        patience.at_most_seconds - returned.taken.sent.age_seconds,
    )
    longest = doubled(patience.first_seconds, tried - 1, patience.longest_seconds)
    return _Settled(
        returned=returned,
        state="waiting",
        reason=returned.attempt.reason,
        in_doubt=_is_in_doubt(returned.attempt),
        pause_seconds=min(with_jitter(longest), left),
    )


def pause_after(attempts: int) -> float:
    """Seconds until the next attempt, longer with every one."""
    return with_jitter(doubled(FIRST_PAUSE_SECONDS, attempts - 1, LONGEST_PAUSE_SECONDS))


def _is_in_doubt(attempt: Attempt) -> bool:
    return attempt.ended in {Ended.FAILED, Ended.IN_DOUBT}


def _parked(returned: Returned, reason: str) -> _Settled:
    """What was done, though what follows from it cannot be, is asked about before a retry."""
    attempt = returned.attempt
    was_done = attempt.answer is not None and attempt.answer.refused is None
    doubt = was_done or _is_in_doubt(attempt)
    return _Settled(returned=returned, state="parked", reason=reason, in_doubt=doubt)


def _parked_as_deadly(taken: Taken) -> _Settled:
    reason = "the process ended while it was being done"
    attempt = Attempt(ended=Ended.IN_DOUBT, reason=reason)
    tried = taken.sent.attempts - 1
    return _parked(Returned(taken=taken, attempt=attempt), f"{tried} attempts, the last: {reason}")


def _update(cursor: Cursor[Any], settled: Sequence[_Settled]) -> dict[int, _Ours]:
    """Write it, and tell of which, by number, the leases were still ours."""
    columns = {
        "numbers": bigints([each.returned.taken.number for each in settled]),
        "tokens": uuids([each.returned.taken.token for each in settled]),
        "states": texts([each.state for each in settled]),
        "reasons": texts([each.reason for each in settled]),
        "in_doubt": booleans([each.in_doubt for each in settled]),
        "forgiven": integers([each.forgiven for each in settled]),
        "pauses": doubles([each.pause_seconds for each in settled]),
    }
    rows = cursor.execute(SETTLE, columns, prepare=False).fetchall()
    return {number: _Ours(*rest) for number, *rest in rows}
