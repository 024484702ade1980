"""What is done about a transaction: pure functions, asked without anybody who does it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

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
from codebase.model.payments.transaction import (
    PaymentMethod,
    RecordDecision,
    RecordPayment,
)
from codebase.services.transact import driver
from codebase.services.transact.driver import (
    FRAUD_POLICE,
    LOG,
    PAYMENT_PROVIDER,
    TRANSACTION_AGES,
    TRANSACTIONS,
)
from codebase.services.transact.payment_methods import STRATEGIES, initiate, status, word_of
from tests.unit.test_transaction import COMPLETED, FLAGGED, INITIATED, REQUESTED

ID = UUID(int=5)
AT = datetime(2026, 11, 28, 9, 30, tzinfo=UTC)
ASKED = driver.asked(ID, REQUESTED)
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


def test_nothing_else_is_anything_to_begin_with() -> None:
    assert TRANSACTIONS.subject(happened(REQUESTED)) == ID
    assert TRANSACTIONS.subject(happened(COMPLETED)) is None


@pytest.mark.parametrize("is_fraud", [True, False])
def test_its_word_is_recorded(*, is_fraud: bool) -> None:
    [send] = follows(Send(FRAUD_POLICE, "look at", ASKED), **said(is_fraud=is_fraud))
    assert isinstance(send, Send)
    assert (send.target, send.action) == (LOG, "decide")
    command = driver.command(Sent(key=ID, subject=ID, send=send))
    assert command.stream_id == ID
    decision = command.command
    assert isinstance(decision, RecordDecision)
    assert (decision.is_fraud, decision.score) == (is_fraud, "40")
    [reason] = decision.reasons
    assert (reason.version, reason.observed, reason.limit) == ("2", "True", "")
    assert len(reason.sentence) == 500


@pytest.mark.parametrize(
    "nonsense",
    [{}, {"message": {}}, {"message": {"isFraud": "no"}}, {"message": {"isFraud": None}}],
)
def test_what_is_no_word_of_the_police_is_none(nonsense: Mapping[str, Any]) -> None:
    with pytest.raises((KeyError, TypeError)):
        follows(Send(FRAUD_POLICE, "look at", ASKED), **nonsense)


def test_only_what_was_cleared_is_initiated_and_only_what_was_initiated_is_charged() -> None:
    cleared = Send(LOG, "decide", {"asked": ASKED, "decision": {"is_fraud": False}})
    fraud = Send(LOG, "decide", {"asked": ASKED, "decision": {"is_fraud": True}})
    initiate_it = Send(LOG, "initiate", {"asked": ASKED})
    assert follows(cleared, outcome="done") == [initiate_it]
    assert follows(cleared, outcome="unchanged") == []
    assert follows(fraud, outcome="done") == []
    assert follows(initiate_it, outcome="done") == [Send(PAYMENT_PROVIDER, "charge", ASKED)]
    assert follows(initiate_it, outcome="unchanged") == []


def test_the_word_of_the_provider_is_recorded() -> None:
    charge = Send(PAYMENT_PROVIDER, "charge", ASKED)
    paid, refused = (
        Send(LOG, "record payment", {"is_paid": True}),
        {"is_paid": False, "reason": "x"},
    )
    assert follows(charge, outcome="paid") == [paid]
    assert follows(charge, outcome="refused", reason="x") == [Send(LOG, "record payment", refused)]
    assert follows(charge, outcome="settled") == []
    with pytest.raises(ValueError, match="no outcome"):
        follows(charge, outcome="perhaps")
    command = driver.command(Sent(key=ID, subject=ID, send=paid))
    assert command.command == RecordPayment(is_paid=True)
    assert follows(paid, outcome="done") == []


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
    assert word_of(Answer(data={})).data == {"outcome": "paid"}
    assert word_of(Answer(refused="402 no", data=no)).data == {
        "outcome": "refused",
        "reason": "no money",
    }
    assert word_of(Answer(refused="422 what", data={})).refused == "422 what"


def test_names_that_are_stored_stay_as_they_are() -> None:
    assert (TRANSACTIONS.name, TRANSACTION_AGES.name) == ("transactions", "transaction_ages")
    assert TRANSACTIONS.insists_on == {"fraud_police", "payment_provider"}
