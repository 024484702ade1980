"""Judging a payment: allow list, then block list, then the sum of the weights of what has hit."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from codebase.model.payments.fraud_features import Features, LacksDataError, Payment
from codebase.model.payments.fraud_rule_set import Rule, RuleSet


class DecidedBy(StrEnum):
    """What a decision rests on."""

    ALLOW_LIST = "allow_list"
    BLOCK_LIST = "block_list"
    RULES = "rules"


class FindingKind(StrEnum):
    """Whether a rule has hit, or has failed."""

    HIT = "hit"
    ERR = "err"


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """What a rule, or a list, says of a payment.

    Args:
        rule: its name; `allow_list` or `block_list` for the lists.
        version: of the rule's kind.
        weight: what it adds to the score.
        kind: a hit, or an error; what says nothing has no finding.
        observed: what it saw.
        limit: what it allows.
        window: in seconds, if it has one.
        sentence: the same for people.
    """

    rule: str
    version: int
    weight: int
    kind: FindingKind
    observed: str = ""
    limit: str = ""
    window: int | None = None
    sentence: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Judgement:
    """What is decided of a payment, and why."""

    denied: bool
    decided_by: DecidedBy
    score: int
    findings: tuple[Finding, ...]


def judge(rules: RuleSet, payment: Payment, features: Features) -> Judgement:
    """The judgement of the live rules; a score that reaches the threshold denies."""
    findings = find(rules.live, payment, features)
    score = sum(finding.weight for finding in findings)
    if features.allowed is not None:
        listed = _listed(DecidedBy.ALLOW_LIST, features.allowed)
        return Judgement(
            denied=False,
            decided_by=DecidedBy.ALLOW_LIST,
            score=score,
            findings=(listed, *findings),
        )
    if features.blocked is not None:
        listed = _listed(DecidedBy.BLOCK_LIST, features.blocked)
        return Judgement(
            denied=True, decided_by=DecidedBy.BLOCK_LIST, score=score, findings=(listed, *findings)
        )
    return Judgement(
        denied=score >= rules.threshold,
        decided_by=DecidedBy.RULES,
        score=score,
        findings=tuple(findings),
    )


def find(rules: Iterable[Rule], payment: Payment, features: Features) -> list[Finding]:
    """What each of the rules finds; one that raises, or lacks data, has found that it failed."""
    findings = []
    for rule in rules:
        try:
            hit = rule.judge(payment, features)
        except Exception as error:  # noqa: BLE001 - the boundary between rules: one's bug is its own
            findings.append(_failed(rule, error))
            continue
        if hit is not None:
            observed, limit, sentence = hit
            findings.append(
                Finding(
                    rule=rule.id,
                    version=rule.version,
                    weight=rule.weight,
                    kind=FindingKind.HIT,
                    observed=observed,
                    limit=limit,
                    window=rule.window,
                    sentence=sentence,
                )
            )
    return findings


def _failed(rule: Rule, error: Exception) -> Finding:
    # The text of an unforeseen error may hold anything; that of this one is ours.
    why = str(error) if isinstance(error, LacksDataError) else type(error).__name__
    return Finding(
        rule=rule.id,
        version=rule.version,
        weight=rule.weight if rule.fail_closed else 0,
        kind=FindingKind.ERR,
        window=rule.window,
        sentence=f"this rule could not tell: {why}",
    )


def _listed(by: DecidedBy, what: str) -> Finding:
    name = by.replace("_", " ")
    return Finding(
        rule=by, version=1, weight=0, kind=FindingKind.HIT, sentence=f"on the {name}: {what}"
    )
