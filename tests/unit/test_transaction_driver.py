"""What is done about a transaction: pure functions, asked without anybody who does it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import pytest
from aiohttp import ClientSession

from codebase.engine.reactions.attempt import Ended, attempt
from codebase.engine.reactions.breaker import FAILURES_TO_OPEN
from codebase.engine.reactions.http_target import Call, HttpTarget
from codebase.engine.reactions.keys import key_of
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
from codebase.engine.reactions.target import (
    AwayError,
    FailedError,
    InDoubtError,
    LaterError,
    NotAllowedError,
    NotSentError,
    Undone,
)
from codebase.engine.reactions.way import Way
from codebase.foundation.errors import ServiceUnavailable
from codebase.model.payments.transaction import (
    Command,
    PaymentMethod,
    RecordPayment,
    Status,
    Transaction,
    decide,
    evolve,
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
from tests.unit.test_transaction import FLAGGED, INITIATED, REQUESTED

ID = UUID(int=5)
AT = datetime(2026, 11, 28, 9, 30, tzinfo=UTC)
ASKED = driver.asked(ID, REQUESTED, AT)
PAYMENT = {**ASKED["payment"], "amount": "123.00", "currency": "INR"}
FINDING = {
    "rule": "luhn",
    "version": 2,
    "weight": 40,
    "observed": True,
    "limit": None,
    "window": "",
    "sentence": "x" * 1000,
    "kind": "err",
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
    taken: list[str] = field(default_factory=list)

    async def take(self, _transaction_id: UUID, command: Command) -> Any:  # noqa: ANN401 - an outcome
        self.taken.append(type(command).__name__)
        before = self.status
        state = Transaction(requested=REQUESTED, status=before)
        for event in decide(command, state):
            state = evolve(state, event)
        self.status = state.status
        return SimpleNamespace(state=state, changed=before is not self.status)


def only_looks(police: Police, steps: RealSteps) -> PoliceTarget:
    """The target where nobody may be paid: some wait for that already."""
    return PoliceTarget(
        cast("HttpTarget", police),
        steps,
        PaymentTarget(cast("HttpTarget", Provider()), steps),
        here=Way(TRANSACTIONS.name, FRAUD_POLICE, most=2),
        to_provider=to_provider(),
    )


def to_provider(*, is_there: bool = False) -> Way:
    way = Way(TRANSACTIONS.name, PAYMENT_PROVIDER, most=2)
    way.line_up(is_line=not is_there)
    return way


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
    steps = cast("RealSteps", Steps(status))
    target = only_looks(police, steps)
    shown = Sent(key=ID, subject=ID, send=Send(FRAUD_POLICE, "look at", ASKED), age_seconds=age)
    answer = asyncio.run(target.send(shown))
    assert (police.asked, answer.data["status"]) == (asked, then)


class Away:
    """Steps of transactions whose log does not answer."""

    async def take(self, _transaction_id: UUID, _command: object) -> object:
        raise ServiceUnavailable("write_model", "no answer in time")


def test_a_log_that_does_not_answer_says_nothing_of_the_police() -> None:
    steps = cast("RealSteps", Away())
    target = only_looks(Police(), steps)
    shown = Sent(key=ID, subject=ID, send=Send(FRAUD_POLICE, "look at", ASKED))
    ended = asyncio.run(attempt(target, shown))
    assert (ended.ended, ended.is_ours) == (Ended.IN_DOUBT, True)


@dataclass
class Provider:
    """Takes the money, and notes what it was asked, by the keys; or does not, and says so or not.

    Args:
        fails: what becomes of a charge instead; it may have been made all the same.
        made: whether it was.
        meanwhile: what happens while it is asked.
    """

    fails: Exception | Answer | None = None
    made: bool = True
    charged: list[UUID] = field(default_factory=list)
    inquired: list[UUID] = field(default_factory=list)
    meanwhile: Callable[[], None] = lambda: None
    deadline_seconds: float = NEVER_SECONDS

    async def send(self, sent: Sent) -> Answer:
        self.meanwhile()
        if self.made:
            self.charged.append(sent.key)
        if isinstance(self.fails, Exception):
            raise self.fails
        return self.fails or Answer(data=PAYMENT)

    async def inquire(self, sent: Sent) -> Answer | Undone:
        self.inquired.append(sent.key)
        self.meanwhile()
        return Answer(data=PAYMENT) if self.charged else Undone()


@dataclass
class Journey:
    """A transaction on its way through both targets, by the log of which it is PENDING."""

    provider: Provider = field(default_factory=Provider)
    is_there: bool = True
    steps: Steps = field(default_factory=lambda: Steps(Status.PENDING))

    def __post_init__(self) -> None:
        steps = cast("RealSteps", self.steps)
        self.payment = PaymentTarget(cast("HttpTarget", self.provider), steps)
        self.way = to_provider(is_there=self.is_there)
        self.here = Way(TRANSACTIONS.name, FRAUD_POLICE, most=2)
        self.police = PoliceTarget(
            cast("HttpTarget", Police()),
            steps,
            self.payment,
            here=self.here,
            to_provider=self.way,
        )

    def shown(self, **sent: Any) -> Sent:  # noqa: ANN401 - fields
        return Sent(key=ID, subject=ID, send=Send(FRAUD_POLICE, "look at", ASKED), **sent)

    def look(self, **sent: Any) -> Answer:  # noqa: ANN401 - fields
        """One attempt to have it looked at."""
        return asyncio.run(self.police.send(self.shown(**sent)))

    def follow(self, answer: Answer, **sent: Any) -> list[Sent]:  # noqa: ANN401 - fields
        """What is sent by itself after that answer, as it is written down."""
        intents = TRANSACTIONS.outcome(self.shown(**sent), answer)
        return [
            Sent(key=key_of(ID, ordinal), subject=ID, send=each, in_doubt=each.in_doubt)
            for ordinal, each in enumerate(cast("list[Send]", intents))
        ]

    def pay(self, charge: Sent) -> Answer | None:
        """The first attempt at what was sent by itself."""
        return asyncio.run(attempt(self.payment, charge)).answer


def test_what_is_cleared_is_paid_in_the_same_attempt_and_nothing_follows() -> None:
    journey = Journey()
    answer = journey.look()
    assert answer == Answer(data={"status": "PAYMENT_COMPLETE"}, is_news=False)
    assert journey.steps.taken == ["RecordDecision", "RecordPayment"]
    assert journey.follow(answer) == []
    assert journey.provider.charged == [key_of(ID, 0)], "the key of what follows otherwise"
    room = (journey.way.reserve_for_new(2), journey.here.reserve())
    assert room == (2, 2), "the room is given back"


def test_a_slow_provider_keeps_nobody_from_the_fraud_police() -> None:
    journey, room = Journey(), list[int]()

    def look_around() -> None:
        room.append(journey.here.reserve())
        journey.here.release(room[-1])

    journey.provider.meanwhile = look_around
    journey.here.go(journey.here.reserve())
    journey.look()
    assert room == [1], "two are on their way there, and one of them is elsewhere"
    assert journey.here.on_their_way == 2


def test_where_there_is_no_room_it_is_paid_by_what_follows() -> None:
    journey = Journey(is_there=False)
    answer = journey.look()
    assert answer.data["status"] == "CLEARED"
    [charge] = journey.follow(answer)
    assert journey.provider.charged == []
    assert journey.pay(charge) == Answer(data={"status": "PAYMENT_COMPLETE"})
    assert journey.steps.taken == ["RecordDecision", "InitiatePayment", "RecordPayment"]
    assert (journey.provider.charged, journey.provider.inquired) == ([charge.key], [])


@pytest.mark.parametrize("made", [True, False], ids=["charged", "not charged"])
@pytest.mark.parametrize(
    "fails",
    [
        FailedError("answered 500"),
        InDoubtError("it broke"),
        TimeoutError(),
        Answer(refused="422 what"),
        Answer(data={"amount": "1.00"}),
    ],
    ids=["fails", "breaks off", "hangs", "not understood", "other money"],
)
def test_what_may_have_been_paid_at_once_is_asked_for_before_it_is_paid(
    fails: Exception | Answer, *, made: bool
) -> None:
    journey = Journey(Provider(fails=fails, made=made))
    answer = journey.look()
    assert answer.data["status"] == "PAYMENT_INITIATED"
    [charge] = journey.follow(answer)
    journey.provider.fails, journey.provider.made = None, True
    assert journey.pay(charge) == Answer(data={"status": "PAYMENT_COMPLETE"})
    assert journey.provider.charged == [charge.key], "once, by one key"
    assert journey.provider.inquired == [charge.key]


@pytest.mark.parametrize(
    "fails",
    [AwayError("is away"), NotSentError("answered 503"), LaterError("no"), NotAllowedError("no")],
    ids=["away", "not now", "later", "not let in"],
)
def test_what_surely_was_not_paid_at_once_is_paid_without_a_question(fails: Exception) -> None:
    journey = Journey(Provider(fails=fails, made=False))
    [charge] = journey.follow(journey.look())
    assert not charge.in_doubt, "it is hurried when the provider is back"
    journey.provider.fails, journey.provider.made = None, True
    assert journey.pay(charge) == Answer(data={"status": "PAYMENT_COMPLETE"})
    assert (journey.provider.charged, journey.provider.inquired) == ([charge.key], [])


def test_a_provider_that_does_not_answer_at_once_is_left_alone() -> None:
    journey = Journey(Provider(fails=InDoubtError("it broke"), made=False))
    for _ in range(FAILURES_TO_OPEN):
        journey.steps.status = Status.PENDING
        assert journey.look().data["status"] == "PAYMENT_INITIATED"
    journey.steps.status = Status.PENDING
    assert journey.look().data["status"] == "CLEARED"


def test_a_provider_that_refuses_the_money_has_answered() -> None:
    no = {"type": "/problems/payment-refused", "detail": "no money"}
    journey = Journey(Provider(fails=Answer(refused="402 no", data=no), made=False))
    answer = journey.look()
    assert answer.data == {"status": "PAYMENT_FAILED"}
    assert journey.follow(answer) == []


def test_what_is_in_doubt_is_not_paid_at_once() -> None:
    """Of a log that was adopted, where it came from it may have been paid."""
    journey = Journey()
    answer = journey.look(in_doubt=True)
    assert answer.data["status"] == "CLEARED"
    assert journey.provider.charged == []


def test_a_charge_against_the_word_of_a_person_is_found() -> None:
    journey = Journey(Provider(fails=InDoubtError("it broke")))
    [charge] = journey.follow(journey.look())
    journey.steps.status = Status.PAYMENT_FAILED
    answer = journey.pay(charge)
    assert answer is not None
    assert answer.refused is not None, "somebody has to see to it"
    assert "PAYMENT_FAILED" in answer.refused
    assert len(journey.provider.charged) == 1


def test_a_charge_by_who_died_is_found_though_a_person_has_settled_it_meanwhile() -> None:
    journey = Journey()
    journey.provider.charged.append(key_of(ID, 0))
    journey.steps.status = Status.PAYMENT_FAILED
    answer = journey.look(in_doubt=True, attempts=2)
    [charge] = journey.follow(answer, in_doubt=True)
    assert charge.in_doubt
    paid = journey.pay(charge)
    assert paid is not None
    assert paid.refused is not None, "somebody has to see to it"


def test_what_stands_in_the_log_says_nothing_of_the_police() -> None:
    journey = Journey(steps=Steps(Status.CLEARED))
    assert not journey.look(in_doubt=True).is_news
    assert Journey(is_there=False).look().is_news


@pytest.mark.parametrize("status", [Status.PAYMENT_FAILED, Status.PAYMENT_COMPLETE])
def test_what_has_ended_before_it_was_paid_is_not_paid(status: Status) -> None:
    journey = Journey(is_there=False)
    [charge] = journey.follow(journey.look())
    journey.steps.status = status
    assert journey.pay(charge) == Answer(data={"status": status.value})
    assert journey.provider.charged == []


def test_whoever_is_settled_while_the_provider_is_asked_is_not_paid_after_that() -> None:
    journey = Journey(Provider(fails=InDoubtError("it broke"), made=False))
    [charge] = journey.follow(journey.look())
    journey.provider.fails, journey.provider.made = None, True
    journey.provider.meanwhile = lambda: setattr(journey.steps, "status", Status.PAYMENT_FAILED)
    assert journey.pay(charge) == Answer(data={"status": "PAYMENT_FAILED"})
    assert journey.provider.charged == []


def test_what_somebody_else_has_initiated_is_not_paid_at_once() -> None:
    journey = Journey(steps=Steps(Status.PAYMENT_INITIATED))
    assert journey.look().data["status"] == "PAYMENT_INITIATED"
    assert journey.provider.charged == []


def test_a_later_attempt_looks_first_whether_it_was_decided() -> None:
    """The answer of the log may have been lost, with what the police says by now another word."""
    police = Police()
    steps = Steps(Status.PAYMENT_INITIATED)
    target = only_looks(police, cast("RealSteps", steps))
    send = Send(FRAUD_POLICE, "look at", ASKED)
    answer = asyncio.run(target.send(Sent(key=ID, subject=ID, send=send, attempts=2)))
    assert (police.asked, answer.data["status"]) == (0, "PAYMENT_INITIATED")


@dataclass
class Charged:
    """A provider that has taken the money."""

    deadline_seconds: float = NEVER_SECONDS

    async def inquire(self, _sent: Sent) -> Answer:
        return Answer(data=PAYMENT)


@pytest.mark.parametrize("status", [Status.CLEARED, Status.PAYMENT_INITIATED])
def test_what_was_charged_where_the_log_came_from_is_paid_here(status: Status) -> None:
    steps = Steps(status)
    provider = cast("HttpTarget", Charged())
    target = PaymentTarget(provider, cast("RealSteps", steps))
    charge = Sent(key=ID, subject=ID, send=Send(PAYMENT_PROVIDER, "charge", ASKED))
    assert asyncio.run(target.inquire(charge)) == Answer(data={"status": "PAYMENT_COMPLETE"})


class Ignorant(HttpTarget):
    """A provider that knows nothing of any charge."""

    async def _request(self, _sent: Sent, _call: Call) -> tuple[int, Mapping[str, Any]]:
        return 404, {}


def test_a_provider_that_knows_nothing_of_a_charge_has_answered() -> None:
    session = cast("ClientSession", None)
    provider = Ignorant(session, "http://provider", initiate, inquiry=status)
    steps = cast("RealSteps", Steps(Status.PAYMENT_INITIATED))
    target = PaymentTarget(provider, steps)
    charge = Sent(key=ID, subject=ID, send=Send(PAYMENT_PROVIDER, "charge", ASKED))
    assert asyncio.run(target.inquire(charge)) == Undone()
    assert asyncio.run(Ignorant(session, "http://police", look).inquire(charge)) is None


@dataclass
class Silent:
    """A provider that never says what became of a charge."""

    error: Exception
    deadline_seconds: float = NEVER_SECONDS

    async def inquire(self, _sent: Sent) -> Answer:
        raise self.error


@pytest.mark.parametrize(
    "error",
    [AwayError("is away"), FailedError("answered 500"), InDoubtError("it broke"), TimeoutError()],
    ids=["away", "fails", "breaks off", "hangs"],
)
@pytest.mark.parametrize(
    ("status", "is_over"),
    [
        (Status.PAYMENT_FAILED, True),
        (Status.PAYMENT_COMPLETE, True),
        (Status.PAYMENT_INITIATED, False),
        # Whoever was to initiate it died before.
        (Status.CLEARED, False),
    ],
)
def test_who_never_says_what_became_of_a_charge_is_not_asked_once_a_person_has(
    error: Exception, status: Status, *, is_over: bool
) -> None:
    provider, steps = cast("HttpTarget", Silent(error)), cast("RealSteps", Steps(status))
    charge = Sent(key=ID, subject=ID, send=Send(PAYMENT_PROVIDER, "charge", ASKED))
    asked = PaymentTarget(provider, steps).inquire(charge)
    if is_over:
        assert asyncio.run(asked) == Answer(data={"status": status.value})
    else:
        with pytest.raises(type(error)):
            asyncio.run(asked)


def test_nothing_else_is_anything_to_begin_with() -> None:
    assert TRANSACTIONS.subject(happened(REQUESTED)) == ID
    assert TRANSACTIONS.events == (type(REQUESTED),)


@pytest.mark.parametrize("is_fraud", [True, False])
def test_its_word_is_a_decision(*, is_fraud: bool) -> None:
    decision = decision_of(said(is_fraud=is_fraud), initiates=is_fraud)
    assert (decision.is_fraud, decision.score) == (is_fraud, "40")
    [reason] = decision.reasons
    assert (reason.version, reason.observed, reason.limit) == ("2", "True", "")
    assert reason.kind == "err"
    assert len(reason.sentence) == 500


def test_it_may_say_what_no_store_keeps_and_more_than_anybody_reads() -> None:
    finding = {**FINDING, "sentence": "a\0b\ud800"}
    decision = decision_of(
        said(is_fraud=True, reasons=[finding] * 60 + ["no finding"]), initiates=False
    )
    assert len(decision.reasons) == 50
    assert decision.reasons[0].sentence == "a?b?"
    assert decision_of(said(is_fraud=True, reasons=None), initiates=False).reasons == ()


@pytest.mark.parametrize(
    "nonsense",
    [{}, {"message": {}}, {"message": {"isFraud": "no"}}, {"message": "no"}, {"message": None}],
)
def test_what_is_no_word_of_the_police_is_none(nonsense: Mapping[str, Any]) -> None:
    with pytest.raises(NoWordError):
        decision_of(nonsense, initiates=False)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("CLEARED", [Send(PAYMENT_PROVIDER, "charge", ASKED)]),
        # Whoever has written that may have had it paid.
        ("PAYMENT_INITIATED", [Send(PAYMENT_PROVIDER, "charge", ASKED, in_doubt=True)]),
        ("FRAUDULENT", []),
        ("PAYMENT_FAILED", []),
        ("PAYMENT_COMPLETE", []),
    ],
)
def test_what_was_cleared_is_paid(status: str, expected: list[Send]) -> None:
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


def test_ages_end_what_nobody_carries_any_more_in_whatever_log() -> None:
    assert TRANSACTION_AGES.stays_in_the_log
    assert not TRANSACTIONS.stays_in_the_log, "money moves elsewhere"


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
    assert payment_of(Answer(data={}), PAYMENT) == RecordPayment(is_paid=True)
    refused = payment_of(Answer(refused="402 no", data=no), PAYMENT)
    assert refused == RecordPayment(is_paid=False, reason="no money")
    with pytest.raises(NoWordError, match="422"):
        payment_of(Answer(refused="422 what", data={}), PAYMENT)


@pytest.mark.parametrize(
    "told",
    [{"amount": "123"}, {"amount": 123}, {"amount": "123.000", "currency": "INR"}],
)
def test_a_provider_may_write_the_same_money_otherwise(told: Mapping[str, Any]) -> None:
    assert payment_of(Answer(data=told), PAYMENT) == RecordPayment(is_paid=True)


@pytest.mark.parametrize("charges", [0, 2, -1, "many", None, [1]])
def test_money_that_moved_more_often_than_once_or_not_at_all_completes_nothing(
    charges: object,
) -> None:
    told = {"amount": "123.00", "currency": "INR", "charges": charges}
    with pytest.raises(NoWordError, match="not once"):
        payment_of(Answer(data=told), PAYMENT)
    assert payment_of(Answer(data={**told, "charges": 1}), PAYMENT).is_paid


@pytest.mark.parametrize(
    "told",
    [
        {"amount": "123.01"},
        {"amount": 12300},
        {"amount": "123.00", "currency": "USD"},
        {"amount": "a lot"},
        {"amount": None},
        {"amount": "NaN"},
        {"amount": "sNaN"},
    ],
)
def test_other_money_than_was_asked_for_completes_nothing(told: Mapping[str, Any]) -> None:
    with pytest.raises(NoWordError, match="another amount or currency"):
        payment_of(Answer(data=told), PAYMENT)


def test_names_that_are_stored_stay_as_they_are() -> None:
    assert (TRANSACTIONS.name, TRANSACTION_AGES.name) == ("transactions", "transaction_ages")
    assert TRANSACTIONS.insists_on == {"fraud_police", "payment_provider"}
