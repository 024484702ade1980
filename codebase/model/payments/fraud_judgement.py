"""Judging a payment: allow list, then block list, then the sum of the weights of what has hit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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


Found = Mapping[str, Finding | None]
"""Rule -> what it has found already."""
NOTHING_YET: Found = {}
TOO_LONG = "it took too long"


def judge(
    rules: RuleSet, payment: Payment, features: Features, found: Found = NOTHING_YET
) -> Judgement:
    """The judgement of the live rules; a score that reaches the threshold denies.

    Those of which it is known what they have found are not asked.
    """
    findings = find(rules.live, payment, features, found)
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


def find(
    rules: Iterable[Rule], payment: Payment, features: Features, found: Found = NOTHING_YET
) -> list[Finding]:
    """What each of the rules finds, or has found already."""
    findings = []
    for rule in rules:
        finding = found[rule.id] if rule.id in found else asked(rule, payment, features)
        if finding is not None:
            findings.append(finding)
    return findings


def asked(rule: Rule, payment: Payment, features: Features) -> Finding | None:
    """What a rule finds; one that raises, or lacks data, has found that it failed."""
    try:
        hit = rule.judge(payment, features)
    except Exception as error:  # noqa: BLE001 - the boundary between rules: one's bug is its own
        # The text of an unforeseen error may hold anything; that of this one is ours.
        return failed(rule, str(error) if isinstance(error, LacksDataError) else _name(error))
    if hit is None:
        return None
    observed, limit, sentence = hit
    return Finding(
        rule=rule.id,
        version=rule.version,
        weight=rule.weight,
        kind=FindingKind.HIT,
        observed=observed,
        limit=limit,
        window=rule.window,
        sentence=sentence,
    )


def late(rule: Rule) -> Finding:
    """What is found of a rule that nobody can wait for any longer."""
    return failed(rule, TOO_LONG)


def found_late(findings: Iterable[Finding]) -> Found:
    """Those findings that do not follow from anything: the rule took too long, that time."""
    return {each.rule: each for each in findings if each.sentence == _could_not_tell(TOO_LONG)}


def failed(rule: Rule, why: str) -> Finding:
    """What is found of a rule that could not tell; `why` is a sentence without a capital."""
    return Finding(
        rule=rule.id,
        version=rule.version,
        weight=rule.weight if rule.fail_closed else 0,
        kind=FindingKind.ERR,
        window=rule.window,
        sentence=_could_not_tell(why),
    )


def _could_not_tell(why: str) -> str:
    return f"this rule could not tell: {why}"


def _name(error: Exception) -> str:
    return type(error).__name__


def _listed(by: DecidedBy, what: str) -> Finding:
    name = by.replace("_", " ")
    return Finding(
        rule=by, version=1, weight=0, kind=FindingKind.HIT, sentence=f"on the {name}: {what}"
    )
