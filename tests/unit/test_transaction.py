"""The rules of a transaction: its table of states is never left, and nothing happens twice."""

from __future__ import annotations

import random
from dataclasses import fields, replace
from decimal import Decimal
from typing import Any, get_args

import pytest

from codebase.model.payments.cards import Card
from codebase.model.payments.transaction import (
    DECIDED,
    STATUS_AFTER,
    TABLE,
    TRANSACTION,
    Command,
    Event,
    ExpireTransaction,
    InitiatePayment,
    LookAt,
    PaymentCompleted,
    PaymentFailed,
    PaymentInitiated,
    PaymentMethod,
    PaymentType,
    Reason,
    RecordAlert,
    RecordDecision,
    RecordPayment,
    RequestTransaction,
    SettleTransaction,
    Status,
    Transaction,
    TransactionAlerted,
    TransactionCleared,
    TransactionFlagged,
    TransactionRequested,
)
from codebase.model.refusals import Conflict, NotFound, Rejected
from codebase.views.payments.fields import ShownStatus

CARD = Card(brand="visa", last_four="1111", luhn=True, fingerprints=("c1:abcdefghijklmnopqrstuv",))
REQUESTED = TransactionRequested(
    client="shop",
    order_id="1234",
    order_name="A lamp",
    order_cost=Decimal("123.00"),
    order_currency="INR",
    payment_method=PaymentMethod.AMAZONPAY,
    payment_type=PaymentType.WALLET,
    amount=Decimal("123.00"),
    currency="INR",
    card=CARD,
    max_age_seconds=86_400.0,
)
FOUND = Reason(
    rule="luhn", version="1", weight="40", observed="", limit="", window="", sentence="not Luhn's"
)
CLEARED = TransactionCleared(score="0", reasons=())
FLAGGED = TransactionFlagged(score="90", reasons=(FOUND,))
INITIATED = PaymentInitiated(payment_method=PaymentMethod.AMAZONPAY)
COMPLETED = PaymentCompleted(amount=Decimal("123.00"), currency="INR")
FAILED = PaymentFailed(reason="no money there")
ALERTED = TransactionAlerted(by="email")

REQUEST = RequestTransaction(requested=REQUESTED)
CLEAR = RecordDecision(is_fraud=False, score="0", reasons=())
CLEAR_AND_INITIATE = replace(CLEAR, initiates=True)
FLAG = RecordDecision(is_fraud=True, score="90", reasons=(FOUND,))
FLAG_AND_INITIATE = replace(FLAG, initiates=True)
INITIATE, PAID = InitiatePayment(), RecordPayment(is_paid=True)
NOT_PAID = RecordPayment(is_paid=False, reason="no money there")
SETTLE_PAID = SettleTransaction(is_paid=True, reason="seen at the bank", by="root")
SETTLE_FAILED = SettleTransaction(is_paid=False, reason="not seen there", by="root")
EXPIRE, ALERT, LOOK = ExpireTransaction(), RecordAlert(by="email"), LookAt()

PENDING = [REQUESTED]
IS_CLEARED = [*PENDING, CLEARED]
IS_INITIATED = [*IS_CLEARED, INITIATED]
IS_COMPLETE = [*IS_INITIATED, COMPLETED]
HAS_FAILED = [*IS_INITIATED, FAILED]
IS_FRAUD = [*PENDING, FLAGGED]
IS_ALERTED = [*IS_FRAUD, ALERTED]
TOO_OLD = PaymentFailed(reason="it was PENDING for more than 86400 seconds")
SETTLED = PaymentFailed(reason="not seen there", settled_by="root")

CASES: list[tuple[str, list[Event], Command, list[Event] | type[Rejected]]] = [
    ("is requested", [], REQUEST, [REQUESTED]),
    ("is requested again", IS_COMPLETE, REQUEST, []),
    ("is cleared", PENDING, CLEAR, [CLEARED]),
    ("is cleared and initiated in one step", PENDING, CLEAR_AND_INITIATE, [CLEARED, INITIATED]),
    ("and once", IS_INITIATED, CLEAR_AND_INITIATE, []),
    ("is not initiated by a decision that comes late", IS_CLEARED, CLEAR_AND_INITIATE, []),
    ("is flagged", PENDING, FLAG, [FLAGGED]),
    ("fraud is not initiated with the decision", PENDING, FLAG_AND_INITIATE, [FLAGGED]),
    ("is cleared once", IS_CLEARED, CLEAR, []),
    ("is not flagged after it was cleared", IS_CLEARED, FLAG, []),
    ("is not cleared after it was flagged", IS_FRAUD, CLEAR, []),
    ("is not cleared when it is too old", [REQUESTED, TOO_OLD], CLEAR, []),
    ("is initiated once it is cleared", IS_CLEARED, INITIATE, [INITIATED]),
    ("is not initiated before", PENDING, INITIATE, []),
    ("is initiated once", IS_INITIATED, INITIATE, []),
    ("fraud is never initiated", IS_FRAUD, INITIATE, []),
    ("what is too old is never initiated", [REQUESTED, TOO_OLD], INITIATE, []),
    ("is paid", IS_INITIATED, PAID, [COMPLETED]),
    ("is refused", IS_INITIATED, NOT_PAID, [FAILED]),
    ("is paid once", IS_COMPLETE, PAID, []),
    ("is refused once", HAS_FAILED, NOT_PAID, []),
    ("money that moved without being asked to is seen", PENDING, PAID, Conflict),
    ("money that moved against what was settled is seen", [*IS_INITIATED, SETTLED], PAID, Conflict),
    ("a refusal of what is complete is seen", IS_COMPLETE, NOT_PAID, Conflict),
    (
        "a person says that it was paid",
        IS_INITIATED,
        SETTLE_PAID,
        [replace(COMPLETED, settled_by="root", reason="seen at the bank")],
    ),
    ("a person says that it was not", IS_INITIATED, SETTLE_FAILED, [SETTLED]),
    ("it is settled once", [*IS_INITIATED, SETTLED], SETTLE_FAILED, []),
    ("it is not settled otherwise", [*IS_INITIATED, SETTLED], SETTLE_PAID, Conflict),
    ("what was not initiated is not settled", PENDING, SETTLE_PAID, Conflict),
    ("fraud is not settled", IS_FRAUD, SETTLE_PAID, Conflict),
    ("waits for too long", PENDING, EXPIRE, [TOO_OLD]),
    (
        "waits for too long when it is cleared",
        IS_CLEARED,
        EXPIRE,
        [PaymentFailed(reason="it was CLEARED for more than 86400 seconds")],
    ),
    ("what may have been paid never gets too old", IS_INITIATED, EXPIRE, []),
    ("what has ended never gets too old", IS_COMPLETE, EXPIRE, []),
    ("somebody is told of fraud", IS_FRAUD, ALERT, [ALERTED]),
    ("once", IS_ALERTED, ALERT, []),
    ("there is nothing to tell of what is no fraud", IS_COMPLETE, ALERT, Conflict),
    ("to look changes nothing", PENDING, LOOK, []),
    ("what there is not is not found", [], LOOK, NotFound),
    ("nor paid", [], PAID, NotFound),
]


@pytest.mark.parametrize(
    ("given", "when", "then"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_a_transaction(
    given: list[Event], when: Command, then: list[Event] | type[Rejected]
) -> None:
    state = TRANSACTION.fold(given)
    if isinstance(then, type):
        with pytest.raises(then):
            TRANSACTION.decide(when, state)
    else:
        assert TRANSACTION.decide(when, state) == then


COMMANDS: tuple[Command, ...] = (
    REQUEST,
    CLEAR,
    CLEAR_AND_INITIATE,
    FLAG,
    INITIATE,
    PAID,
    NOT_PAID,
    SETTLE_PAID,
    SETTLE_FAILED,
    EXPIRE,
    ALERT,
    LOOK,
)


def decided(command: Command, state: Transaction | None) -> list[Event]:
    try:
        return TRANSACTION.decide(command, state)
    except Rejected:
        return []


def test_a_random_walk_never_leaves_the_table_and_what_is_final_absorbs() -> None:
    chance = random.Random("walk")  # noqa: S311 - repeatable
    seen = set[tuple[Status | None, Status]]()
    state: Transaction | None = None
    for _ in range(100_000):
        command = chance.choice(COMMANDS)
        events = decided(command, state)
        for event in events:
            before = state.status if state else None
            state = TRANSACTION.evolve(state, event)
            seen.add((before, state.status))
            assert before is None or state.status in TABLE[before]
            assert TRANSACTION.topic(event) == f"transaction.{state.status.value.lower()}"
        assert decided(command, state) == [], "a repeat changes nothing"
        if state is not None and not TABLE[state.status]:
            assert all(decided(each, state) == [] for each in COMMANDS)
            state = None
    steps = {(before, after) for before, afters in TABLE.items() for after in afters}
    assert seen == steps | {(None, Status.PENDING)}, "every step of the table was taken"


def test_every_command_and_every_event_takes_part() -> None:
    classes: set[Any] = {type(command) for command in COMMANDS}
    assert classes == set(Command.__args__)  # type: ignore[attr-defined] # of the union
    assert set(STATUS_AFTER) == set(Event.__args__)  # type: ignore[attr-defined]
    assert set(STATUS_AFTER.values()) == set(Status) == set(TABLE)


def test_a_client_is_told_of_what_cannot_be_paid_any_more() -> None:
    unpaid = {Status.PENDING, Status.CLEARED, Status.PAYMENT_INITIATED}
    assert set(Status) - unpaid == DECIDED


def test_every_status_can_be_shown_and_asked_for() -> None:
    assert list(get_args(ShownStatus)) == [status.value for status in Status]


def test_a_transaction_belongs_to_its_client() -> None:
    state = TRANSACTION.fold(PENDING)
    assert state is not None
    assert TRANSACTION.owner is not None
    assert TRANSACTION.owner(state) == "shop"
    assert TRANSACTION.fold(IS_COMPLETE) == replace(state, status=Status.PAYMENT_COMPLETE)


def test_of_a_card_an_event_holds_what_it_was_reduced_to() -> None:
    assert {field.name for field in fields(REQUESTED.card)} == {
        "brand",
        "last_four",
        "luhn",
        "fingerprints",
    }
