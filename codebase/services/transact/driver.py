"""What is done about a transaction, one step after the other, until it has ended.

The only way from one step to the next: a request waits for it, and so does whoever repeats one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from codebase.engine.messages.command_message import Became
from codebase.engine.reactions.bus_target import CommandOn
from codebase.engine.reactions.reaction import (
    Answer,
    Forget,
    Happened,
    Intent,
    Reaction,
    Remind,
    Reminder,
    Send,
    Sent,
)
from codebase.model.payments.transaction import (
    TRANSACTION,
    Command,
    ExpireTransaction,
    InitiatePayment,
    PaymentInitiated,
    Reason,
    RecordDecision,
    RecordPayment,
    TransactionFlagged,
    TransactionRequested,
)

# Names of reactions, targets, actions and reminders are stored, and never change.
FRAUD_POLICE, PAYMENT_PROVIDER, LOG = "fraud_police", "payment_provider", "log"
LOOK, CHARGE = "look at", "charge"
DECIDE, INITIATE, RECORD, EXPIRE = "decide", "initiate", "record payment", "expire"
EXPIRES = "expires"

PAID, REFUSED, SETTLED = "paid", "refused", "settled"
"""What a payment method says became of a payment; settled: by a person, so that nobody is asked."""

REASONS_MAX = 50
TEXT_MAX = 500


def react(happened: Happened, _state: Any) -> Sequence[Intent]:  # noqa: ANN401 - as reactions have it
    """Whatever is requested is shown to the fraud police."""
    return [Send(FRAUD_POLICE, LOOK, asked(happened.stream_id, happened.event))]


def asked(transaction_id: UUID, requested: TransactionRequested) -> dict[str, Any]:
    """A transaction as it is told to others."""
    card = requested.card
    return {
        "transactionID": str(transaction_id),
        "userID": requested.client,
        "paymentMethod": requested.payment_method.value,
        "payment": {
            "card": {
                "brand": card.brand,
                "last_four": card.last_four,
                "luhn": card.luhn,
                "fingerprints": list(card.fingerprints),
            },
            "type": requested.payment_type.value,
            "amount": str(requested.amount),
            "currency": requested.currency,
        },
        "order": {
            "id": requested.order_id,
            "name": requested.order_name,
            "cost": str(requested.order_cost),
            "currency": requested.order_currency,
        },
    }


def outcome(sent: Sent, answer: Answer) -> Sequence[Intent]:
    """The next step, by what became of the one before.

    Raises:
        KeyError, TypeError, ValueError: the answer is none that is known.
    """
    data = sent.send.data
    match sent.send.action:
        case "look at":
            return [Send(LOG, DECIDE, {"asked": data, "decision": decision(answer.data)})]
        case "decide" if was_done(answer) and not data["decision"]["is_fraud"]:
            return [Send(LOG, INITIATE, {"asked": data["asked"]})]
        case "initiate" if was_done(answer):
            return [Send(PAYMENT_PROVIDER, CHARGE, data["asked"])]
        case "charge":
            return recorded(answer.data)
        case _:
            return ()


def was_done(answer: Answer) -> bool:
    """Whether a command led to anything; others were faster if it did not."""
    return bool(answer.data["outcome"] == Became.DONE.value)


def decision(said: Mapping[str, Any]) -> dict[str, Any]:
    """What the fraud police said, as it is kept.

    Raises:
        KeyError, TypeError, ValueError: that is no decision.
    """
    message = said["message"]
    if not isinstance(message["isFraud"], bool):
        raise TypeError("isFraud is neither true nor false")
    return {
        "is_fraud": message["isFraud"],
        "score": _text(message.get("score")),
        "reasons": [
            {name: _text(reason.get(name)) for name in Reason.__slots__}
            for reason in message.get("reasons", ())[:REASONS_MAX]
        ],
    }


def _text(value: object) -> str:
    return "" if value is None else str(value)[:TEXT_MAX]


def recorded(said: Mapping[str, Any]) -> Sequence[Intent]:
    """What is done about the word of a payment method.

    Raises:
        KeyError, ValueError: it said none that is known.
    """
    match said["outcome"]:
        case "paid":
            return [Send(LOG, RECORD, {"is_paid": True})]
        case "refused":
            reason = _text(said.get("reason"))
            return [Send(LOG, RECORD, {"is_paid": False, "reason": reason})]
        case "settled":
            return ()
        case _:
            raise ValueError("that is no outcome")


def remind_of_age(happened: Happened, _state: Any) -> Sequence[Intent]:  # noqa: ANN401 - as reactions have it
    """A transaction that has waited for too long fails, unless it may have been paid."""
    match happened.event:
        case TransactionRequested(max_age_seconds=seconds):
            return [Remind(EXPIRES, happened.recorded_at + timedelta(seconds=seconds))]
        case _:
            return [Forget(EXPIRES)]


def expire(_reminder: Reminder, _state: Any) -> Sequence[Intent]:  # noqa: ANN401 - as reactions have it
    """Its time is over; a command that comes too late does nothing."""
    return [Send(LOG, EXPIRE)]


def command(sent: Sent) -> CommandOn:
    """What is sent to the log."""
    return CommandOn(aggregate=TRANSACTION, stream_id=sent.subject, command=_command(sent.send))


def _command(send: Send) -> Command:
    match send.action:
        case "decide":
            said = send.data["decision"]
            reasons = tuple(Reason(**reason) for reason in said["reasons"])
            return RecordDecision(is_fraud=said["is_fraud"], score=said["score"], reasons=reasons)
        case "initiate":
            return InitiatePayment()
        case "record payment":
            return RecordPayment(**send.data)
        case "expire":
            return ExpireTransaction()
        case _:
            raise ValueError("the log knows no such action")


TRANSACTIONS = Reaction(
    name="transactions",
    aggregates=(TRANSACTION,),
    subject=lambda happened: (
        happened.stream_id if isinstance(happened.event, TransactionRequested) else None
    ),
    react=react,
    outcome=outcome,
    insists_on=frozenset({FRAUD_POLICE, PAYMENT_PROVIDER}),
)

# By itself: in the other one's order it would have to wait for whoever is away.
TRANSACTION_AGES = Reaction(
    name="transaction_ages",
    aggregates=(TRANSACTION,),
    subject=lambda happened: (
        happened.stream_id
        if isinstance(happened.event, TransactionRequested | PaymentInitiated | TransactionFlagged)
        else None
    ),
    react=remind_of_age,
    remind=expire,
)
