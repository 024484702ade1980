"""Judges transactions: looks up what came before, and has the card's own stream decide."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime

from prometheus_client import Counter

from codebase.engine.commands.bus import CommandBus
from codebase.engine.commands.fingerprint import Content
from codebase.engine.commands.submission import Outcome, Submission
from codebase.foundation.clock import Clock
from codebase.foundation.validation import adapter
from codebase.model.actor import Actor
from codebase.model.payments.card_check import CARD_CHECK, Assess, TransactionAssessed, id_of_card
from codebase.model.payments.fraud_features import Payment
from codebase.model.payments.fraud_rule_history import (
    FRAUD_RULES,
    AdoptRuleSet,
    id_of_rule_set,
)
from codebase.services.fraud_police.rule_watch import RuleWatch
from codebase.views.payments import fraud_past
from codebase.web.consistent_reads import ConsistentReads

DECISIONS = Counter(
    "orderly_fraud_decisions", "Transactions judged, repeats not counted.", ["outcome"]
)
FINDINGS = Counter("orderly_fraud_findings", "What live rules found.", ["rule", "kind"])
CLEARED, DENIED = "cleared", "denied"
for outcome_name in (CLEARED, DENIED):
    DECISIONS.labels(outcome_name)


@dataclass(frozen=True, kw_only=True, slots=True)
class Shown:
    """A transaction that is shown to the police, and by whom.

    `requested_at` is when it was requested; None: now.
    """

    caller: str
    transaction_id: str
    payment: Payment
    requested_at: datetime | None
    request_id: str
    traceparent: str | None


class Police:
    """Judges by one rule set.

    Args:
        bus: takes decisions to the log.
        reads: of the police's own tables.
        rules: to judge by, and who asks them.
        now: the clock that windows end at.
    """

    def __init__(
        self, bus: CommandBus, reads: ConsistentReads, rules: RuleWatch, now: Clock
    ) -> None:
        self._bus = bus
        self.rules = rules.rules
        self._ask_rules = rules.ask
        self.now = now
        # Not `reads.fetch`, which waits for what the caller has written: a decision does not wait
        # for the one before it.
        self._past = reads.query(fraud_past.QUERY, fraud_past.ARGUMENTS).read
        self._adopting: asyncio.Task[None] | None = None
        self._is_adopted = False

    async def assess(self, shown: Shown) -> Outcome:
        """The outcome of a decision, whose state holds it; a repeat has that of the first time.

        Raises:
            Rejected: the transaction was shown before with another content.
            ServiceUnavailable: a store is away; the same may be sent again.
        """
        if not self._is_adopted:
            await self._adopt()
        payment, as_of = shown.payment, self._as_of(shown)
        found = await self._past.fetch(*fraud_past.asked(payment, as_of, self.rules.windows))
        features = fraud_past.features_of(found.rows[0])
        command = Assess(
            transaction_id=shown.transaction_id,
            payment=payment,
            as_of=as_of,
            features=features,
            positions=dict(found.reached.positions),
            rules=self.rules,
            found=await self._ask_rules(payment, features),
        )
        outcome = await self._bus.execute(
            Submission(
                aggregate=CARD_CHECK,
                stream_id=id_of_card(payment.card),
                command=command,
                # A client that knows the id of its payment in advance might ask while it is still
                # let through: whoever else asks has the payment judged as of then.
                idempotence_key=f"{shown.caller}:{shown.transaction_id}",
                content=content_of(shown),
                actor=Actor(payment.client),
                command_id=shown.request_id,
                traceparent=shown.traceparent,
            )
        )
        if not outcome.replayed:
            count(outcome.state.last)
        return outcome

    def _as_of(self, shown: Shown) -> datetime:
        """When it was requested, however late it is shown; nothing is judged as of the future."""
        now = self.now()
        return now if shown.requested_at is None else min(shown.requested_at, now)

    async def _adopt(self) -> None:
        """Before the first decision: what decides it has to be found again by its hash.

        Whoever asks meanwhile shares this one attempt, and its failure: one after the other would
        wait for as many deadlines as there are before him.
        """
        if self._adopting is None or self._adopting.done():
            self._adopting = asyncio.create_task(self._adopt_rules(), name="adopting the rules")
        await asyncio.shield(self._adopting)

    async def _adopt_rules(self) -> None:
        rules = self.rules
        await self._bus.execute(
            Submission(
                aggregate=FRAUD_RULES,
                stream_id=id_of_rule_set(rules.hash),
                command=AdoptRuleSet(hash=rules.hash, text=rules.text),
                idempotence_key=None,
                content=Content.of("adopt_rule_set", {"hash": rules.hash}, {}),
                actor=Actor("fraud_police"),
                command_id=f"adopt {rules.hash}",
            )
        )
        self._is_adopted = True


def content_of(shown: Shown) -> Content:
    """What tells a repeat from another transaction with the same id; the card is a fingerprint.

    It is the one with the oldest key, which a new key leaves as it is.
    """
    details = adapter(Payment).dump_python(shown.payment, mode="json")
    details["card"] = shown.payment.card.fingerprints[-1]
    return Content.of("assess_transaction", details, {"transaction": shown.transaction_id})


def count(event: TransactionAssessed) -> None:
    """Count a decision, and what led to it."""
    DECISIONS.labels(DENIED if event.denied else CLEARED).inc()
    for finding in event.findings:
        FINDINGS.labels(finding.rule, finding.kind).inc()
