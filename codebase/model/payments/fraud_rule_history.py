"""Every rule set that decided anything, by its hash, so that what it decided can be recomputed."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID, uuid5

from codebase.model.aggregate import Aggregate

RULE_SETS = UUID("3f1d7a80-55a9-5b0c-9a0d-70a1c2b4e6f8")
"""The namespace of the ids of rule sets."""


# Events: names and fields are the storage format. Add fields with defaults, never rename.
@dataclass(frozen=True, kw_only=True, slots=True)
class RuleSetAdopted:
    """From now on payments may be judged by this set; `text` is all of it, as canonical JSON."""

    hash: str
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class AdoptRuleSet:
    """Judge by this set."""

    hash: str
    text: str


def id_of_rule_set(rules_hash: str) -> UUID:
    """The stream of a rule set."""
    return uuid5(RULE_SETS, rules_hash)


def evolve(_state: RuleSetAdopted | None, event: RuleSetAdopted) -> RuleSetAdopted:
    """The set; it never changes."""
    return event


def decide(command: AdoptRuleSet, state: RuleSetAdopted | None) -> list[RuleSetAdopted]:
    """A set is adopted once."""
    return [] if state else [RuleSetAdopted(hash=command.hash, text=command.text)]


def topic(_event: RuleSetAdopted) -> str:
    """The routing key of an event."""
    return "fraud_rules.adopted"


FRAUD_RULES: Aggregate[AdoptRuleSet, RuleSetAdopted, RuleSetAdopted] = Aggregate(
    category="fraud_rules",
    events=(RuleSetAdopted,),
    decide=decide,
    evolve=evolve,
    topic=topic,
)
