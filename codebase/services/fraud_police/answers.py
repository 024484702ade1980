"""What the fraud police answers: whether a transaction is fraud, and why."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from codebase.model.payments.card_check import TransactionAssessed
from codebase.model.payments.fraud_judgement import Finding, FindingKind
from codebase.web.schemas import example

REASON = {
    "rule": "card_payments_in_an_hour",
    "version": 1,
    "weight": 15,
    "kind": "hit",
    "observed": "121",
    "limit": "120",
    "window": 3600,
    "sentence": "121 payments of this card in 1 hour, 120 are allowed",
}


class Reason(BaseModel):
    """What a rule found; `window` is in seconds, and null where a rule has none.

    `err` is a rule that failed: it says so, and weighs nothing unless it is to fail closed.
    """

    model_config = example(**REASON)

    rule: str
    version: int
    weight: int
    kind: FindingKind
    observed: str
    limit: str
    window: int | None
    sentence: str

    @classmethod
    def of(cls, finding: Finding) -> Reason:
        """As it is answered."""
        return cls(
            rule=finding.rule,
            version=finding.version,
            weight=finding.weight,
            kind=finding.kind,
            observed=finding.observed,
            limit=finding.limit,
            window=finding.window,
            sentence=finding.sentence,
        )


class Verdict(BaseModel):
    """Whether it is fraud: on the block list, or with a score that reaches the threshold."""

    model_config = ConfigDict(
        **example(isFraud=False, score=15, reasons=[REASON]), serialize_by_alias=True
    )

    is_fraud: bool = Field(alias="isFraud")
    score: int
    reasons: list[Reason]


class Assessment(BaseModel):
    """The answer, in the shape that older clients know."""

    model_config = example(code=200, message={"isFraud": False, "score": 15, "reasons": [REASON]})

    code: Literal[200]
    message: Verdict

    @classmethod
    def of(cls, event: TransactionAssessed) -> Assessment:
        """As it is answered."""
        reasons = [Reason.of(finding) for finding in event.findings]
        verdict = Verdict(isFraud=event.denied, score=event.score, reasons=reasons)
        return cls(code=200, message=verdict)
