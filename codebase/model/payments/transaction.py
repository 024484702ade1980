"""A client pays for an order by card: cleared by the fraud police first, then paid, and once.

    PENDING ──▶ CLEARED ──▶ PAYMENT_INITIATED ──▶ PAYMENT_COMPLETE | PAYMENT_FAILED
    PENDING ──▶ FRAUDULENT ──▶ ALERTED
    PENDING | CLEARED ──▶ PAYMENT_FAILED    when it has waited for too long

From PAYMENT_INITIATED on money may have moved: only who knows whether it has ends that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import assert_never

from codebase.model.aggregate import Aggregate
from codebase.model.payments.cards import Card
from codebase.model.refusals import Conflict, NotFound


class Status(StrEnum):
    """How far a transaction is."""

    PENDING = "PENDING"
    CLEARED = "CLEARED"
    FRAUDULENT = "FRAUDULENT"
    ALERTED = "ALERTED"
    PAYMENT_INITIATED = "PAYMENT_INITIATED"
    PAYMENT_COMPLETE = "PAYMENT_COMPLETE"
    PAYMENT_FAILED = "PAYMENT_FAILED"


TABLE: Mapping[Status, frozenset[Status]] = {
    Status.PENDING: frozenset({Status.CLEARED, Status.FRAUDULENT, Status.PAYMENT_FAILED}),
    Status.CLEARED: frozenset({Status.PAYMENT_INITIATED, Status.PAYMENT_FAILED}),
    Status.PAYMENT_INITIATED: frozenset({Status.PAYMENT_COMPLETE, Status.PAYMENT_FAILED}),
    Status.FRAUDULENT: frozenset({Status.ALERTED}),
    Status.ALERTED: frozenset(),
    Status.PAYMENT_COMPLETE: frozenset(),
    Status.PAYMENT_FAILED: frozenset(),
}
"""Status -> those that may follow."""

DECIDED = frozenset(
    {Status.FRAUDULENT, Status.ALERTED, Status.PAYMENT_COMPLETE, Status.PAYMENT_FAILED}
)
"""Those in which the client can be told how it ended."""


class PaymentMethod(StrEnum):
    """Whom the money is moved by; `any` leaves it to the provider."""

    PAYTM = "paytm"
    ICICI_DEBIT = "icici-debit"
    AMAZONPAY = "amazonpay"
    ANY = "any"


class PaymentType(StrEnum):
    """What is paid with."""

    WALLET = "wallet"
    CREDIT = "credit"
    DEBIT = "debit"
    NETBANKING = "netbanking"


@dataclass(frozen=True, kw_only=True, slots=True)
class Reason:
    """What the fraud police found, in its own words, all of them texts.

    `kind` is `hit`, or `err` of a rule that failed; empty where it was not kept yet.
    """

    rule: str
    version: str
    weight: str
    observed: str
    limit: str
    window: str
    sentence: str
    kind: str = ""


# Events: names and fields are the storage format. Add fields with defaults, never rename.
@dataclass(frozen=True, kw_only=True, slots=True)
class TransactionRequested:
    """A client wants to pay; nobody has looked at it yet.

    Of the card there is nothing but what it was reduced to. `max_age_seconds` is how long it may
    wait before it fails.
    """

    client: str
    order_id: str
    order_name: str
    order_cost: Decimal
    order_currency: str
    payment_method: PaymentMethod
    payment_type: PaymentType
    amount: Decimal
    currency: str
    card: Card
    max_age_seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class TransactionCleared:
    """The fraud police has nothing against it, whatever it found."""

    score: str
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class TransactionFlagged:
    """The fraud police takes it for fraud; it will never be paid."""

    score: str
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class TransactionAlerted:
    """Somebody has been told of the fraud."""

    by: str


@dataclass(frozen=True, kw_only=True, slots=True)
class PaymentInitiated:
    """From now on the provider may be asked for the money."""

    payment_method: PaymentMethod


@dataclass(frozen=True, kw_only=True, slots=True)
class PaymentCompleted:
    """The money has moved, says the provider, or a person who settled it."""

    amount: Decimal
    currency: str
    settled_by: str | None = None
    reason: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class PaymentFailed:
    """No money has moved, nor will it; `reason` says why."""

    reason: str
    settled_by: str | None = None


Event = (
    TransactionRequested
    | TransactionCleared
    | TransactionFlagged
    | TransactionAlerted
    | PaymentInitiated
    | PaymentCompleted
    | PaymentFailed
)


STATUS_AFTER: Mapping[type[Event], Status] = {
    TransactionRequested: Status.PENDING,
    TransactionCleared: Status.CLEARED,
    TransactionFlagged: Status.FRAUDULENT,
    TransactionAlerted: Status.ALERTED,
    PaymentInitiated: Status.PAYMENT_INITIATED,
    PaymentCompleted: Status.PAYMENT_COMPLETE,
    PaymentFailed: Status.PAYMENT_FAILED,
}
"""Event -> the status that it leads to."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestTransaction:
    """Pay for an order: the transaction begins as it was asked for."""

    requested: TransactionRequested


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordDecision:
    """What the fraud police said; too late where something else was decided before.

    `initiates` says that what was cleared is paid at once: two steps, and nobody sees it between
    them.
    """

    is_fraud: bool
    score: str
    reasons: tuple[Reason, ...]
    initiates: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class InitiatePayment:
    """Go on from CLEARED."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordPayment:
    """What the provider said; `reason` why it did not take the money."""

    is_paid: bool
    reason: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class SettleTransaction:
    """What an administrator knows of a payment that the provider says nothing of."""

    is_paid: bool
    reason: str
    by: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ExpireTransaction:
    """Its time is over."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordAlert:
    """Somebody was told of the fraud, by this way."""

    by: str


@dataclass(frozen=True, kw_only=True, slots=True)
class LookAt:
    """How does it stand? Changes nothing."""


Command = (
    RequestTransaction
    | RecordDecision
    | InitiatePayment
    | RecordPayment
    | SettleTransaction
    | ExpireTransaction
    | RecordAlert
    | LookAt
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Transaction:
    """What was asked for, how far it is, and whether a person said how it ended."""

    requested: TransactionRequested
    status: Status
    settled_by: str | None = None


State = Transaction


def evolve(state: State | None, event: Event) -> State:
    """The transaction one step further."""
    if isinstance(event, TransactionRequested):
        return Transaction(requested=event, status=Status.PENDING)
    assert state is not None, "a transaction begins by being requested"  # noqa: S101 - an invariant
    return Transaction(
        requested=state.requested,
        status=status_after(event),
        settled_by=getattr(event, "settled_by", None),
    )


def status_after(event: Event) -> Status:
    """The status that an event leads to."""
    return STATUS_AFTER[type(event)]


def decide(command: Command, state: State | None) -> list[Event]:
    """One step further, or none: what comes again, or too late, changes nothing.

    Raises:
        NotFound: there is no such transaction.
        Conflict: it contradicts how the transaction ended, or is not about it.
    """
    if isinstance(command, RequestTransaction):
        return [command.requested] if state is None else []
    if state is None:
        raise NotFound("there is no such transaction")
    events: list[Event]
    match command:
        case RecordDecision():
            events = _decided(command, state)
        case InitiatePayment():
            events = [_initiated(state)] if state.status is Status.CLEARED else []
        case RecordPayment():
            events = _paid_or_not(command, state)
        case SettleTransaction():
            events = _settled(command, state)
        case ExpireTransaction():
            events = _expired(state)
        case RecordAlert():
            events = _alerted(command, state)
        case LookAt():
            events = []
        case _:
            assert_never(command)
    return events


def _decided(command: RecordDecision, state: State) -> list[Event]:
    if state.status is not Status.PENDING:
        return []
    if command.is_fraud:
        return [TransactionFlagged(score=command.score, reasons=command.reasons)]
    cleared = TransactionCleared(score=command.score, reasons=command.reasons)
    return [cleared, _initiated(state)] if command.initiates else [cleared]


def _initiated(state: State) -> Event:
    return PaymentInitiated(payment_method=state.requested.payment_method)


def _completed(state: State, *, settled_by: str | None = None, reason: str | None = None) -> Event:
    asked = state.requested
    return PaymentCompleted(
        amount=asked.amount, currency=asked.currency, settled_by=settled_by, reason=reason
    )


def _paid_or_not(command: RecordPayment, state: State) -> list[Event]:
    ended = Status.PAYMENT_COMPLETE if command.is_paid else Status.PAYMENT_FAILED
    if state.status is ended:
        return []
    if state.status is not Status.PAYMENT_INITIATED:
        # Somebody has to see to it: money has moved, or has not, against what is written here.
        raise Conflict(
            f"the provider says {ended.value}, and the transaction is {state.status.value}"
        )
    return [_completed(state) if command.is_paid else PaymentFailed(reason=command.reason)]


def _settled(command: SettleTransaction, state: State) -> list[Event]:
    ended = Status.PAYMENT_COMPLETE if command.is_paid else Status.PAYMENT_FAILED
    if state.status is ended:
        return []
    if state.status is not Status.PAYMENT_INITIATED:
        raise Conflict(
            f"only a payment that was initiated is settled; this one is {state.status.value}",
            status=state.status.value,
        )
    if command.is_paid:
        return [_completed(state, settled_by=command.by, reason=command.reason)]
    return [PaymentFailed(settled_by=command.by, reason=command.reason)]


def _expired(state: State) -> list[Event]:
    if state.status not in {Status.PENDING, Status.CLEARED}:
        return []
    seconds = state.requested.max_age_seconds
    return [PaymentFailed(reason=f"it was {state.status.value} for more than {seconds:g} seconds")]


def _alerted(command: RecordAlert, state: State) -> list[Event]:
    match state.status:
        case Status.FRAUDULENT:
            return [TransactionAlerted(by=command.by)]
        case Status.ALERTED:
            return []
        case _:
            raise Conflict(f"there is no fraud to tell of; the transaction is {state.status.value}")


def topic(event: Event) -> str:
    """The routing key of an event: the status that it leads to."""
    return f"transaction.{status_after(event).value.lower()}"


TRANSACTION: Aggregate[Command, Event, State] = Aggregate(
    category="transaction",
    events=tuple(STATUS_AFTER),
    decide=decide,
    evolve=evolve,
    topic=topic,
    owner=lambda state: state.requested.client,
)
