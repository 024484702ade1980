"""A card's payments are judged one after the other, each once, and what is decided is recorded."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID, uuid5

from codebase.model.aggregate import Aggregate
from codebase.model.payments.cards import Card
from codebase.model.payments.fraud_features import STRICT_MAX, Features, Payment
from codebase.model.payments.fraud_judgement import DecidedBy, Finding, Found, judge
from codebase.model.payments.fraud_rule_set import RuleSet

CARDS = UUID("b7a3d4f2-6a0e-5a55-8a1f-3c7a4f8e2d10")
"""The namespace of the ids of cards."""


# Events: names and fields are the storage format. Add fields with defaults, never rename.
@dataclass(frozen=True, kw_only=True, slots=True)
class TransactionAssessed:
    """A payment was let through or denied.

    Args:
        transaction_id: what the decision is about.
        payment: what was known of it.
        as_of: the moment up to which the past was looked at.
        features: what the past was.
        positions: partition -> how far the read model was that says so.
        rules: the hash of the rule set.
        denied: what was decided.
        decided_by: on what it rests.
        score: the sum of the weights of the findings.
        findings: why.
    """

    transaction_id: str
    payment: Payment
    as_of: datetime
    features: Features
    positions: Mapping[int, int]
    rules: str
    denied: bool
    decided_by: DecidedBy
    score: int
    findings: tuple[Finding, ...]


Event = TransactionAssessed


@dataclass(frozen=True, kw_only=True, slots=True)
class Assess:
    """Judge a payment; `features` are those of the read model, the card's own stream adds some.

    `found` is what rules have found that were asked already, all but the strict ones.
    """

    transaction_id: str
    payment: Payment
    as_of: datetime
    features: Features
    positions: Mapping[int, int]
    rules: RuleSet
    found: Found = field(default_factory=dict)


Command = Assess


@dataclass(frozen=True, slots=True)
class State:
    """As of when a card's latest payments were judged, in order, and what was decided last."""

    times: tuple[datetime, ...]
    last: TransactionAssessed


def id_of_card(card: Card) -> UUID:
    """The stream of a card.

    It comes from the key that has been known longest, which is the last one: a new key that signs
    from now on leaves the card what it was, and all that was counted of it.
    """
    return uuid5(CARDS, card.fingerprints[-1])


def counted(state: State | None, at: datetime, seconds: int) -> int:
    """How many of the card's payments lie together with one at `at` in a window of so many seconds.

    Of all such windows it is the one with the most: who was requested first may be judged last,
    and must not pass where those that were judged before him have filled the limit.
    """
    times = state.times if state else ()
    window = timedelta(seconds=seconds)
    if len(times) == STRICT_MAX and at - times[0] < window:
        return STRICT_MAX  # what came before is not remembered, and may have been in the window
    place, most = bisect_right(times, at), 0
    together = (*times[:place], at, *times[place:])
    for last, end in enumerate(together[place:], place):
        first = bisect_left(together, True, key=partial(_is_within, end, window))  # noqa: FBT003 - a value
        if first > place:
            break
        most = max(most, last - first)
    return most


def _is_within(end: datetime, window: timedelta, time: datetime) -> bool:
    # Not the beginning of the window, which may lie before all that can be said.
    return end - time <= window


def evolve(state: State | None, event: Event) -> State:
    """The card's latest times, a bounded number of them."""
    times = state.times if state else ()
    place = bisect_right(times, event.as_of)
    return State((*times[:place], event.as_of, *times[place:])[-STRICT_MAX:], event)


def decide(command: Command, state: State | None) -> list[Event]:
    """Judge by the rules that the command brings."""
    strict = {
        seconds: counted(state, command.as_of, seconds) for seconds in command.rules.strict_windows
    }
    features = replace(command.features, strict=strict)
    judgement = judge(command.rules, command.payment, features, command.found)
    return [
        TransactionAssessed(
            transaction_id=command.transaction_id,
            payment=command.payment,
            as_of=command.as_of,
            features=features,
            positions=command.positions,
            rules=command.rules.hash,
            denied=judgement.denied,
            decided_by=judgement.decided_by,
            score=judgement.score,
            findings=judgement.findings,
        )
    ]


def topic(event: Event) -> str:
    """The routing key of an event."""
    return f"card_check.{'denied' if event.denied else 'cleared'}"


CARD_CHECK: Aggregate[Command, Event, State] = Aggregate(
    category="card_check",
    events=(TransactionAssessed,),
    decide=decide,
    evolve=evolve,
    topic=topic,
)
