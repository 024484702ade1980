"""What is done about a transaction, one step after the other, until it has ended.

The only way from one step to the next: a request waits for it, and so does whoever repeats one.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

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
    ExpireTransaction,
    PaymentInitiated,
    Status,
    TransactionFlagged,
    TransactionRequested,
)

# Names of reactions, targets, actions and reminders are stored, and never change.
FRAUD_POLICE, PAYMENT_PROVIDER, LOG = "fraud_police", "payment_provider", "log"
LOOK, CHARGE, EXPIRE = "look at", "charge", "expire"
EXPIRES = "expires"

REST_SECONDS = 0.02
"""A client waits for the look that finds his payment; one that finds ten costs little more."""
ERRAND_REST_SECONDS = 0.05
"""Hardly anybody waits for what is written of an errand: most payments have ended by then."""
AGES_REST_SECONDS = 1.0
"""Ages are days. Most transactions have ended within a second, and then none needs a reminder."""

PAID_OR_NOT = frozenset({Status.PAYMENT_COMPLETE.value, Status.PAYMENT_FAILED.value})
MAY_BE_PAID = "may be paid"
"""In an answer: False where it is sure that nobody was asked for the money."""


def react(happened: Happened, _state: Any) -> Sequence[Intent]:  # noqa: ANN401 - as reactions have it
    """Whatever is requested is shown to the fraud police."""
    data = asked(happened.stream_id, happened.event, happened.recorded_at)
    return [Send(FRAUD_POLICE, LOOK, data)]


def asked(
    transaction_id: UUID, requested: TransactionRequested, requested_at: datetime
) -> dict[str, Any]:
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
        # However late it is looked at: what waited together was not paid together.
        "requested_at": requested_at.isoformat(),
    }


def outcome(sent: Sent, answer: Answer) -> Sequence[Intent]:
    """What was cleared is paid; the word of the provider is written down with its answer.

    What was initiated may have been paid by whoever has initiated it, unless he says that nobody
    was asked for the money. So may what has ended since an attempt that did not come back: it may
    be a person who has ended it.
    """
    if sent.send.action != LOOK:
        return ()
    status, may_be_paid = answer.data["status"], answer.data.get(MAY_BE_PAID, True)
    if status == Status.CLEARED:
        return [charge_after(sent, in_doubt=False)]
    if status == Status.PAYMENT_INITIATED or (sent.in_doubt and status in PAID_OR_NOT):
        return [charge_after(sent, in_doubt=may_be_paid)]
    return ()


def charge_after(sent: Sent, *, in_doubt: bool) -> Send:
    """What pays a transaction that was looked at."""
    return Send(PAYMENT_PROVIDER, CHARGE, sent.send.data, in_doubt=in_doubt)


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
    """What is sent to the log, of which there is one thing only."""
    return CommandOn(aggregate=TRANSACTION, stream_id=sent.subject, command=ExpireTransaction())


TRANSACTIONS = Reaction(
    name="transactions",
    aggregates=(TRANSACTION,),
    events=(TransactionRequested,),
    subject=lambda happened: happened.stream_id,
    react=react,
    rest_seconds=REST_SECONDS,
    errand_rest_seconds=ERRAND_REST_SECONDS,
    outcome=outcome,
    insists_on=frozenset({FRAUD_POLICE, PAYMENT_PROVIDER}),
)

# By itself: in the other one's order it would have to wait for whoever is away.
TRANSACTION_AGES = Reaction(
    name="transaction_ages",
    aggregates=(TRANSACTION,),
    events=(TransactionRequested, PaymentInitiated, TransactionFlagged),
    rest_seconds=AGES_REST_SECONDS,
    errand_rest_seconds=AGES_REST_SECONDS,
    subject=lambda happened: happened.stream_id,
    react=remind_of_age,
    remind=expire,
    stays_in_the_log=True,
)
