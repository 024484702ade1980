"""Decisions, and what they turned out to be: `GET /decisions`, `POST /decisions/{id}/label`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

from fastapi import Query, Request, Response
from pydantic import BaseModel, Field

from codebase.engine.commands.bus import CommandBus
from codebase.model.payments.fraud_judgement import DecidedBy
from codebase.model.payments.fraud_label import (
    FRAUD_LABEL,
    Label,
    LabelTransaction,
    id_of_label,
)
from codebase.model.refusals import NotFound
from codebase.services.fraud_police.answers import REASON, Reason
from codebase.views.payments import fraud_queries
from codebase.views.payments.fields import PlainText, key_without_card
from codebase.web.apps import ServiceApp
from codebase.web.consistent_reads import ConsistentReads
from codebase.web.fields import FromText
from codebase.web.pages import LastReference, PageSize, Size, as_json
from codebase.web.parked import LISTS
from codebase.web.personal import Personal
from codebase.web.request_body import RequestBody
from codebase.web.schemas import example
from codebase.web.shell import Answer, Command, caller_of, command, require_admin

SIZE_DEFAULT = 50
DECISION = {
    "transaction_id": "0b3a1f0e-7a5e-4c53-8f0e-3a8f8f3f2c11",
    "client": "shop",
    "decided_at": "2026-11-28T09:30:00.000000Z",
    "is_fraud": False,
    "decided_by": "rules",
    "score": 15,
    "amount": "123.00",
    "currency": "INR",
    "card": "unknown 4321",
    "rules": ["card_payments_in_an_hour"],
    "label": "false_positive",
}

OnlyFraud = Annotated[
    bool | None, Query(description="Only those that were denied, or only the others.")
]


class Decision(BaseModel):
    """A transaction as it was judged; `label` is what it turned out to be, if anybody said so.

    `rules` are those that hit; `card` is its brand and its last four digits.
    """

    model_config = example(**DECISION)

    transaction_id: UUID
    client: str
    decided_at: datetime
    is_fraud: bool
    decided_by: DecidedBy
    score: int
    amount: Decimal
    currency: str
    card: str
    rules: list[str]
    label: Label | None


class WholeDecision(Decision):
    """The same with all reasons; those of shadow rules count for nothing.

    `features` is what was counted of the past, as docs/fraud-features.md says: null for clients,
    since it is also what others were paid by the same card. `rule_set` is the hash of the rules
    that were asked.
    """

    model_config = example(
        **DECISION,
        reasons=[REASON],
        shadow_reasons=[],
        rule_set="55206272c081d5f82373ae51ca6a81cd",
        features={"windows": {"60": [1, 1, "123.00", 0, 1, "123.00", 0, 0]}, "strict": {"60": 1}},
    )

    reasons: list[Reason]
    shadow_reasons: list[Reason]
    rule_set: str
    features: dict[str, Any] | None


class Decisions(BaseModel):
    """The latest first; `last_reference` leads to earlier ones, and is null on an empty page.

    It is of a decision: of one transaction there are as many as there were callers that asked.
    """

    model_config = example(
        items=[DECISION], last_reference="9e0f5a51-6d0b-4f4e-8a57-2f6f0f7c3a90", size=SIZE_DEFAULT
    )

    items: list[Decision]
    last_reference: UUID | None
    size: Annotated[PageSize, Field(examples=[SIZE_DEFAULT])]


class PostLabel(RequestBody):
    """What a transaction turned out to be: fraud, `confirmed`; or none, `false_positive`."""

    model_config = example(label="false_positive", reason="the client called")

    label: FromText[Label]
    reason: PlainText


class TransactionLabel(BaseModel):
    """The last word on a transaction."""

    model_config = example(
        transaction_id=DECISION["transaction_id"],
        label="false_positive",
        reason="the client called",
    )

    transaction_id: UUID
    label: Label
    reason: Personal[str]


def decision_members(row: Sequence[Any]) -> dict[str, Any]:
    """The members of a `Decision`, from the columns that both queries begin with."""
    transaction_id, client, as_of, denied, decided_by, score, payment, hits, label = row
    paid = json.loads(payment)
    return {
        "transaction_id": transaction_id,
        "client": client,
        "decided_at": as_of,
        "is_fraud": denied,
        "decided_by": decided_by,
        "score": score,
        "amount": paid["amount"],
        "currency": paid["currency"],
        "card": f"{paid['card']['brand']} {paid['card']['last_four']}",
        "rules": hits,
        "label": label,
    }


def decisions_of(rows: Sequence[Sequence[Any]], size: int) -> Decisions:
    """The rows of `fraud_queries.DECISIONS`.

    Raises:
        NotFound: the page was to begin after a decision that there is not.
    """
    if not rows[0][0]:
        raise NotFound("last_reference names no decision")
    found = [row for _, *row in rows if row[0] is not None]
    items = [Decision(**decision_members(members)) for *members, _ in found]
    return Decisions(items=items, last_reference=found[-1][-1] if found else None, size=size)


def whole_decision_of(row: Sequence[Any], *, with_features: bool) -> WholeDecision:
    """A row of `fraud_queries.DECISION`."""
    *first, findings, shadow, features, rule_set = row
    return WholeDecision(
        **decision_members(first),
        reasons=json.loads(findings),
        shadow_reasons=json.loads(shadow),
        rule_set=rule_set,
        features=json.loads(features) if with_features else None,
    )


def add_decisions(app: ServiceApp, bus: CommandBus, reads: ConsistentReads) -> None:
    """The routes of decisions and labels."""
    pages = reads.query(fraud_queries.DECISIONS, fraud_queries.PAGE_ARGUMENTS)
    one = reads.query(fraud_queries.DECISION, fraud_queries.ONE_ARGUMENTS)

    @app.get("/decisions", response_model=Decisions, responses=LISTS)
    async def get_decisions(
        request: Request,
        last_reference: LastReference = None,
        size: Size = SIZE_DEFAULT,
        is_fraud: OnlyFraud = None,
    ) -> Response:
        """What was decided of the caller's transactions, or of everybody's."""
        client = caller_of(request).only_client
        rows = await reads.fetch(request, pages, client, last_reference, size, is_fraud)
        return as_json(decisions_of(rows, size).model_dump_json())

    @app.get(
        "/decisions/{transaction_id}",
        response_model=WholeDecision,
        responses={
            404: {"description": "No such transaction, or it is another client's."},
            **LISTS,
        },
    )
    async def get_decision(request: Request, transaction_id: UUID) -> Response:
        """Why it was decided so, and what was counted.

        Of several decisions about a transaction it is the one with the client and the card of the
        payment, as of when that was requested; failing that their latest, or simply the latest.
        """
        client = caller_of(request).only_client
        rows = await reads.fetch(request, one, client, transaction_id)
        if not rows:
            raise NotFound("no such transaction was judged")
        whole = whole_decision_of(rows[0], with_features=client is None)
        return as_json(whole.model_dump_json())

    @command(
        app,
        "POST",
        "/decisions/{transaction_id}/label",
        name="label_transaction",
        body=PostLabel,
        answer=TransactionLabel,
        summary="Say what a transaction was",
        problems={404: "No such transaction was judged."},
        requires=[require_admin, key_without_card],
    )
    async def label_transaction(request: Command[PostLabel]) -> Answer:
        """Fraud, or not; the last word counts, and rules are measured by it."""
        transaction_id = request.path["transaction_id"]
        if not (await one.read.fetch(None, transaction_id)).rows:
            raise NotFound("no such transaction was judged")
        wanted = LabelTransaction(
            transaction_id=str(transaction_id),
            label=request.body.label,
            reason=request.body.reason,
        )
        label_id = id_of_label(str(transaction_id))
        outcome = await bus.execute(request.submission(FRAUD_LABEL, label_id, wanted))
        said = outcome.state
        answer = TransactionLabel(
            transaction_id=transaction_id, label=said.label, reason=said.reason
        )
        return Answer.to(outcome, answer)
