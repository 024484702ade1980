"""A card's payments are judged one after the other, each once, and what is decided is recorded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID, uuid5

from codebase.model.aggregate import Aggregate
from codebase.model.payments.cards import Card
from codebase.model.payments.fraud_features import STRICT_MAX, Features, Payment
from codebase.model.payments.fraud_judgement import DecidedBy, Finding, judge
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
    """Judge a payment; `features` are those of the read model, the card's own stream adds some."""

    transaction_id: str
    payment: Payment
    as_of: datetime
    features: Features
    positions: Mapping[int, int]
    rules: RuleSet


Command = Assess


@dataclass(frozen=True, slots=True)
class State:
    """When a card's latest payments were judged, in order, and what was decided last."""

    times: tuple[datetime, ...]
    last: TransactionAssessed


def id_of_card(card: Card) -> UUID:
    """The stream of a card.

    It comes from the key that has been known longest, which is the last one: a new key that signs
    from now on leaves the card what it was, and all that was counted of it.
    """
    return uuid5(CARDS, card.fingerprints[-1])


def moment(as_of: datetime, state: State | None) -> datetime:
    """When a payment counts as judged: never before the one before it, whoever's clock is late."""
    return as_of if state is None else max(as_of, state.times[-1])


def counted(state: State | None, at: datetime, seconds: int) -> int:
    """How many of the card's payments were judged within so many seconds before `at`."""
    since = at - timedelta(seconds=seconds)
    times = state.times if state else ()
    return sum(since <= time for time in times)


def evolve(state: State | None, event: Event) -> State:
    """The card's latest times, a bounded number of them."""
    times = state.times if state else ()
    return State((*times[-STRICT_MAX + 1 :], moment(event.as_of, state)), event)


def decide(command: Command, state: State | None) -> list[Event]:
    """Judge by the rules that the command brings."""
    at = moment(command.as_of, state)
    strict = {seconds: counted(state, at, seconds) for seconds in command.rules.strict_windows}
    features = replace(command.features, strict=strict)
    judgement = judge(command.rules, command.payment, features)
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
