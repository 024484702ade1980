"""What is done about a transaction: pure functions, asked without anybody who does it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import pytest
from aiohttp import ClientSession

from codebase.engine.reactions.http_target import Call, HttpTarget
from codebase.engine.reactions.reaction import (
    Answer,
    Forget,
    Happened,
    Intent,
    Remind,
    Reminder,
    Send,
    Sent,
)
from codebase.engine.reactions.target import Undone
from codebase.model.payments.transaction import (
    Command,
    PaymentMethod,
    RecordDecision,
    RecordPayment,
    Status,
)
from codebase.services.transact import driver
from codebase.services.transact.at_work import look
from codebase.services.transact.driver import (
    FRAUD_POLICE,
    LOG,
    PAYMENT_PROVIDER,
    TRANSACTION_AGES,
    TRANSACTIONS,
)
from codebase.services.transact.payment_methods import STRATEGIES, initiate, status
from codebase.services.transact.steps import Steps as RealSteps
from codebase.services.transact.targets import PaymentTarget, PoliceTarget
from codebase.services.transact.words import NoWordError, decision_of, payment_of
from tests.patience import NEVER_SECONDS
from tests.unit.test_transaction import COMPLETED, FLAGGED, INITIATED, REQUESTED

ID = UUID(int=5)
AT = datetime(2026, 11, 28, 9, 30, tzinfo=UTC)
ASKED = driver.asked(ID, REQUESTED, AT)
FINDING = {
    "rule": "luhn",
    "version": 2,
    "weight": 40,
    "observed": True,
    "limit": None,
    "window": "",
    "sentence": "x" * 1000,
}


def happened(event: object) -> Happened:
    return Happened(event=event, stream_id=ID, version=1, recorded_at=AT)


def follows(send: Send, **data: Any) -> list[Intent]:  # noqa: ANN401 - any answer
    return list(TRANSACTIONS.outcome(Sent(key=ID, subject=ID, send=send), Answer(data=data)))


def said(*, is_fraud: bool, **more: Any) -> Mapping[str, Any]:  # noqa: ANN401 - any answer
    return {
        "code": 200,
        "message": {"isFraud": is_fraud, "score": 40, "reasons": [FINDING], **more},
    }


def test_what_is_requested_is_shown_to_the_fraud_police_first() -> None:
    assert TRANSACTIONS.after(happened(REQUESTED)) == [Send(FRAUD_POLICE, "look at", ASKED)]
    assert ASKED["userID"] == "shop"
    assert ASKED["payment"]["card"]["fingerprints"] == ["c1:abcdefghijklmnopqrstuv"]


def test_the_police_is_told_when_it_was_requested_and_not_when_it_is_shown() -> None:
    [send] = TRANSACTIONS.after(happened(REQUESTED))
    assert isinstance(send, Send)
    assert look(Sent(key=ID, subject=ID, send=send)).body["requested_at"] == AT.isoformat()


@dataclass
class Police:
    """Says that it is no fraud, and notes that it was asked."""

    asked: int = 0
    deadline_seconds: float = NEVER_SECONDS

    async def send(self, _sent: Sent) -> Answer:
        self.asked += 1
        return Answer(data=said(is_fraud=False))


@dataclass
class Steps:
    """The steps of a transaction that stands so."""

    status: Status

    async def take(self, _transaction_id: UUID, command: Command) -> Any:  # noqa: ANN401 - an outcome
        if isinstance(command, RecordDecision) and self.status is Status.PENDING:
            self.status = Status.CLEARED
        return SimpleNamespace(state=SimpleNamespace(status=self.status))


@pytest.mark.parametrize(
    ("status", "age", "asked", "then"),
    [
        (Status.PENDING, 0.0, 1, "CLEARED"),
        (Status.PENDING, 3600.0, 1, "CLEARED"),
        (Status.PAYMENT_FAILED, 3600.0, 0, "PAYMENT_FAILED"),
        (Status.CLEARED, 3600.0, 0, "CLEARED"),
    ],
    ids=["at once", "after an outage", "expired meanwhile", "decided meanwhile"],
)
def test_what_has_expired_while_it_waited_is_not_shown_to_the_police(
    status: Status, age: float, asked: int, then: str
) -> None:
    police = Police()
    target = PoliceTarget(cast("HttpTarget", police), cast("RealSteps", Steps(status)))
    shown = Sent(key=ID, subject=ID, send=Send(FRAUD_POLICE, "look at", ASKED), age_seconds=age)
    answer = asyncio.run(target.send(shown))
    assert (police.asked, answer.data["status"]) == (asked, then)


class Ignorant(HttpTarget):
    """A provider that knows nothing of any charge."""

    async def _request(self, _sent: Sent, _call: Call) -> tuple[int, Mapping[str, Any]]:
        return 404, {}


def test_a_provider_that_knows_nothing_of_a_charge_has_answered() -> None:
    session = cast("ClientSession", None)
    provider = Ignorant(session, "http://provider", initiate, inquiry=status)
    target = PaymentTarget(provider, cast("RealSteps", Steps(Status.PAYMENT_INITIATED)))
    charge = Sent(key=ID, subject=ID, send=Send(PAYMENT_PROVIDER, "charge", ASKED))
    assert asyncio.run(target.inquire(charge)) == Undone()
    assert asyncio.run(Ignorant(session, "http://police", look).inquire(charge)) is None


def test_nothing_else_is_anything_to_begin_with() -> None:
    assert TRANSACTIONS.subject(happened(REQUESTED)) == ID
    assert TRANSACTIONS.subject(happened(COMPLETED)) is None


@pytest.mark.parametrize("is_fraud", [True, False])
def test_its_word_is_a_decision(*, is_fraud: bool) -> None:
    decision = decision_of(said(is_fraud=is_fraud))
    assert (decision.is_fraud, decision.score) == (is_fraud, "40")
    [reason] = decision.reasons
    assert (reason.version, reason.observed, reason.limit) == ("2", "True", "")
    assert len(reason.sentence) == 500


def test_it_may_say_what_no_store_keeps_and_more_than_anybody_reads() -> None:
    finding = {**FINDING, "sentence": "a\0b\ud800"}
    decision = decision_of(said(is_fraud=True, reasons=[finding] * 60 + ["no finding"]))
    assert len(decision.reasons) == 50
    assert decision.reasons[0].sentence == "a?b?"
    assert decision_of(said(is_fraud=True, reasons=None)).reasons == ()


@pytest.mark.parametrize(
    "nonsense",
    [{}, {"message": {}}, {"message": {"isFraud": "no"}}, {"message": "no"}, {"message": None}],
)
def test_what_is_no_word_of_the_police_is_none(nonsense: Mapping[str, Any]) -> None:
    with pytest.raises(NoWordError):
        decision_of(nonsense)


@pytest.mark.parametrize(
    ("status", "is_paid"),
    [
        ("CLEARED", True),
        # It was written down by an attempt that did not come back.
        ("PAYMENT_INITIATED", True),
        ("FRAUDULENT", False),
        ("PAYMENT_FAILED", False),
        ("PAYMENT_COMPLETE", False),
    ],
)
def test_what_was_cleared_is_paid(status: str, *, is_paid: bool) -> None:
    expected = [Send(PAYMENT_PROVIDER, "charge", ASKED)] if is_paid else []
    assert follows(Send(FRAUD_POLICE, "look at", ASKED), status=status) == expected


def test_nothing_follows_from_a_payment() -> None:
    charge = Send(PAYMENT_PROVIDER, "charge", ASKED)
    assert follows(charge, status="PAYMENT_COMPLETE") == []
    assert follows(charge, status="PAYMENT_INITIATED") == []


def test_a_transaction_gets_too_old_unless_it_may_have_been_paid() -> None:
    due = AT + timedelta(days=1)
    assert TRANSACTION_AGES.after(happened(REQUESTED)) == [Remind("expires", due)]
    assert TRANSACTION_AGES.after(happened(INITIATED)) == [Forget("expires")]
    assert TRANSACTION_AGES.after(happened(FLAGGED)) == [Forget("expires")]
    reminder = Reminder(subject=ID, name="expires", due_at=due, data={})
    assert TRANSACTION_AGES.remind(reminder, None) == [Send(LOG, "expire")]


def test_every_method_names_a_payment_by_its_transaction() -> None:
    assert set(STRATEGIES) == set(PaymentMethod)
    channels = []
    for method in PaymentMethod:
        sent = Sent(
            key=UUID(int=1),
            subject=ID,
            send=Send(PAYMENT_PROVIDER, "charge", {**ASKED, "paymentMethod": method.value}),
        )
        assert initiate(sent).body["transactionID"] == str(ID)
        assert status(sent).path == f"/charges/{ID}"
        assert "card" not in initiate(sent).body
        channels.append(initiate(sent).body["channel"])
    assert channels == ["paytm", "icici", "amazonpay", "paytm"]


def test_only_the_providers_own_refusal_is_one_of_the_payment() -> None:
    no = {"type": "/problems/payment-refused", "detail": "no money"}
    assert payment_of(Answer(data={})) == RecordPayment(is_paid=True)
    refused = payment_of(Answer(refused="402 no", data=no))
    assert refused == RecordPayment(is_paid=False, reason="no money")
    with pytest.raises(NoWordError, match="422"):
        payment_of(Answer(refused="422 what", data={}))


def test_names_that_are_stored_stay_as_they_are() -> None:
    assert (TRANSACTIONS.name, TRANSACTION_AGES.name) == ("transactions", "transaction_ages")
    assert TRANSACTIONS.insists_on == {"fraud_police", "payment_provider"}
