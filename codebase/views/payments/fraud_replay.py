"""`orderly fraud replay`: computes every stored decision again, from the log and the tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from typing import Any, NamedTuple
from uuid import UUID

from psycopg import Connection

from codebase.engine.log.reading import read_heads
from codebase.engine.projections.logged_events import LoggedEvent, read_events
from codebase.foundation.postgres import connect
from codebase.foundation.settings import Settings
from codebase.foundation.validation import adapter
from codebase.model.payments.card_check import (
    CARD_CHECK,
    Assess,
    State,
    TransactionAssessed,
    decide,
    evolve,
)
from codebase.model.payments.fraud_judgement import found_late
from codebase.model.payments.fraud_rule_history import RuleSetAdopted, id_of_rule_set
from codebase.model.payments.fraud_rule_set import RuleSet, RuleSetError, recorded_rules
from codebase.operations import OperationError
from codebase.operations.terminal import Progress, no_progress
from codebase.views.payments import fraud_past

CHUNK = 1_000
BATCH = 64
READ_RULE_SET = """
    SELECT data::text FROM event WHERE stream_id = %(stream_id)s ORDER BY version LIMIT 1
"""
READ_REACHED = """
    SELECT partition, position FROM projection_checkpoint WHERE projector = %(projector)s
"""


@dataclass(frozen=True, slots=True)
class Replayed:
    """How many decisions were computed again, and a sentence for each that came out differently."""

    decisions: int
    differences: Sequence[str]


class Decision(NamedTuple):
    """A stored decision, and the state of its card before it, whose `last` is the same one."""

    event: TransactionAssessed
    before: State | None


class RuleSets:
    """Rule sets by their hash, read from the log when they are first needed."""

    def __init__(self, log: Connection[Any]) -> None:
        self._log = log
        self._known: dict[str, RuleSet] = {}

    def get(self, rules_hash: str) -> RuleSet:
        """The set.

        Raises:
            OperationError: the log does not have it, or this release does not know its rules.
        """
        known = self._known.get(rules_hash)
        if known is None:
            key = {"stream_id": id_of_rule_set(rules_hash)}
            row = self._log.execute(READ_RULE_SET, key).fetchone()
            if row is None:
                raise OperationError(f"the log has no rule set {rules_hash}")
            adopted = adapter(RuleSetAdopted).validate_json(row[0])
            try:
                known = self._known[rules_hash] = recorded_rules(adopted.text)
            except RuleSetError as error:
                raise OperationError(
                    f"this release does not know rule set {rules_hash}: {error}"
                ) from error
        return known


def replay(
    settings: Settings,
    projector: str,
    *,
    say: Callable[[str], None] = print,
    progress: Progress = no_progress,
) -> Replayed:
    """Decide every stored decision again, by the rules and the past of its time.

    Args:
        settings: needs the write model's reader, and the read model.
        projector: whose tables hold the past.
        say: told each difference as it is found.
        progress: shown how far the log has been gone through.

    Raises:
        OperationError: the tables are behind what a decision was made from.
        psycopg.Error: a store cannot be read.
    """
    with (
        connect(settings.required("write_model_reader_url"), "fraud_replay") as log,
        connect(settings.required("read_model_url"), "fraud_replay") as store,
    ):
        rule_sets, differences, count = RuleSets(log), [], 0
        heads = read_heads(log)
        reached = dict(store.execute(READ_REACHED, {"projector": projector}).fetchall())
        with progress(sum(heads.values())) as advance:
            for partition, head in heads.items():
                decisions = _decisions(log, partition, head, advance)
                while batch := list(islice(decisions, BATCH)):
                    count += len(batch)
                    for difference in _compare(store, batch, rule_sets, reached):
                        say(difference)
                        differences.append(difference)
    return Replayed(count, differences)


def _decisions(
    log: Connection[Any], partition: int, head: int, advance: Callable[[int], object]
) -> Iterator[Decision]:
    # Of a card only when it paid, which is all that the next decision looks at: of what was decided
    # of each, memory would not have room.
    paid_at: dict[UUID, tuple[datetime, ...]] = {}
    for logged in _events(log, partition, head, advance):
        if logged.category == CARD_CHECK.category and logged.data is not None:
            event = _read(logged)
            times = paid_at.get(logged.stream_id)
            before = State(times, event) if times else None
            paid_at[logged.stream_id] = evolve(before, event).times
            yield Decision(event, before)


def _read(logged: LoggedEvent) -> TransactionAssessed:
    try:
        event: TransactionAssessed = adapter(TransactionAssessed).validate_json(logged.data or "")
    except ValueError:
        # Its text would repeat the payment.
        place = f"{logged.partition}:{logged.position}"
        raise OperationError(f"this release cannot read the decision at {place}") from None
    return event


def _events(
    log: Connection[Any], partition: int, head: int, advance: Callable[[int], object]
) -> Iterator[LoggedEvent]:
    after = 0
    while after < head:
        page = read_events(
            log,
            partition,
            after=after,
            limit=CHUNK,
            until=head,
            categories=(CARD_CHECK.category,),
        )
        yield from page
        after = page[-1].position
        advance(len(page))


def _compare(
    store: Connection[Any],
    batch: Sequence[Decision],
    rule_sets: RuleSets,
    reached: Mapping[int, int],
) -> Iterator[str]:
    known = [rule_sets.get(each.event.rules) for each in batch]
    for each in batch:
        _require(reached, each.event)
    asked = [
        fraud_past.asked(each.event.payment, each.event.as_of, rules.windows, each.event.positions)
        for each, rules in zip(batch, known, strict=True)
    ]
    columns = zip(*asked, strict=True)
    arguments = dict(zip(fraud_past.ARGUMENTS, map(list, columns), strict=True))
    with store.cursor(binary=True) as cursor:
        rows = sorted(cursor.execute(fraud_past.QUERY, arguments).fetchall())
    for each, rules, (_, *row) in zip(batch, known, rows, strict=True):
        yield from _differing(each, rules, row)


def _require(reached: Mapping[int, int], event: TransactionAssessed) -> None:
    if any(reached.get(partition, 0) < at for partition, at in event.positions.items()):
        raise OperationError("the tables are behind the log; try again when they have caught up")


def _differing(decision: Decision, rules: RuleSet, row: Sequence[Any]) -> Iterator[str]:
    stored = decision.event
    command = Assess(
        transaction_id=stored.transaction_id,
        payment=stored.payment,
        as_of=stored.as_of,
        features=fraud_past.features_of(row),
        positions=stored.positions,
        rules=rules,
        # How long a rule takes is nothing that can be computed.
        found=found_late(stored.findings),
    )
    [again] = decide(command, decision.before)
    name = f"transaction {stored.transaction_id}"
    if again.features != stored.features:
        yield f"{name}: was decided from {stored.features}, the tables say {again.features}"
    # By what was recorded: a past that differs has been told, and is not told twice.
    [judged] = decide(replace(command, features=stored.features), decision.before)
    for field in ("denied", "decided_by", "score", "findings"):
        if getattr(judged, field) != getattr(stored, field):
            told = f"{getattr(stored, field)}, its rules say {getattr(judged, field)}"
            yield f"{name}: {field} is {told}"
