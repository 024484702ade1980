"""The rules of alerts and of silences, and when a client's mails go."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any
from uuid import UUID, uuid4

import pytest

from codebase.engine.reactions.reaction import (
    Answer,
    Happened,
    Patience,
    Remind,
    Reminder,
    Send,
    Sent,
)
from codebase.model.payments.alert import (
    ALERT,
    Alert,
    AlertDelayed,
    AlertDied,
    AlertFinished,
    AlertRaised,
    AlertRetried,
    AlertSent,
    AlertSilenced,
    Channel,
    Command,
    Event,
    LookAt,
    RaiseAlert,
    RecordDeath,
    RecordDelay,
    RecordFinish,
    RecordSent,
    RecordSilence,
    RetryAlert,
)
from codebase.model.payments.silence import (
    SILENCE,
    BeginSilence,
    EndSilence,
    Matcher,
    SilenceBegun,
    SilenceEnded,
)
from codebase.model.payments.transaction import Reason, TransactionFlagged
from codebase.model.refusals import Conflict, NotFound, Rejected
from codebase.services.alertman.alerting import (
    BY_EMAIL,
    BY_SMS,
    LOG,
    RAISING,
    SEND,
    as_json,
    causes,
    kept_back,
)
from codebase.services.alertman.digests import APART, MAILS_MAX, TOGETHER_MAX, WITHIN
from codebase.services.alertman.targets import noted
from tests.unit.test_transaction import FOUND

NOW = datetime(2026, 11, 29, 9, 30, tzinfo=UTC)
ABOUT = Alert(
    transaction_id=UUID("6f1c2b1e-58f4-4f0e-9d2a-6b7d5a0c9e11"),
    channel=Channel.EMAIL,
    client="shop",
    amount=Decimal("123.00"),
    currency="INR",
    card_brand="visa",
    card_last_four="1111",
    score="60",
    rules=("luhn",),
)
HUSH = uuid4()
RAISED, RETRIED = AlertRaised(alert=ABOUT), AlertRetried(alert=ABOUT, by="root")
DELAYED, DIED = AlertDelayed(reason="450"), AlertDied(reason="550")
DOUBTED = replace(DELAYED, may_have_gone=True)
SENT = AlertSent(refused=())
SILENCED = AlertSilenced(silence_id=HUSH, alert=ABOUT)

LATE = ("recipient 2: 451",)
SENT_TO_SOME = AlertSent(refused=LATE)
NEVER = ("recipient 2: 550",)
FINISHED = AlertFinished(refused=NEVER)

FINISH = RecordFinish(refused=NEVER)
DOUBT = RecordDelay(reason="450", may_have_gone=True)
DELAY, DEATH, SEND_OFF = RecordDelay(reason="450"), RecordDeath(reason="550"), RecordSent()
HUSH_UP, RETRY = RecordSilence(silence_id=HUSH), RetryAlert(by="root")


@pytest.mark.parametrize(
    ("given_events", "when", "then"),
    [
        ([], RaiseAlert(alert=ABOUT), [RAISED]),
        ([RAISED], RaiseAlert(alert=ABOUT), []),
        ([RAISED], DELAY, [DELAYED]),
        ([RAISED, DELAYED], DELAY, []),
        ([RAISED], DOUBT, [DOUBTED]),
        ([RAISED, DELAYED], DOUBT, [DOUBTED]),
        ([RAISED, DOUBTED], DOUBT, []),
        ([RAISED, DOUBTED], DELAY, []),
        ([RAISED, DELAYED, DOUBTED], HUSH_UP, []),
        ([RAISED, DELAYED], HUSH_UP, [SILENCED]),
        ([RAISED, SILENCED], DOUBT, []),
        ([RAISED, SENT], DOUBT, []),
        ([RAISED, DOUBTED, DIED, RETRIED], HUSH_UP, [SILENCED]),
        ([RAISED], LookAt(), []),
        ([RAISED], SEND_OFF, [SENT]),
        ([RAISED, DELAYED], SEND_OFF, [SENT]),
        ([RAISED, SENT], SEND_OFF, []),
        ([RAISED, SENT], DELAY, []),
        ([RAISED, SENT], DEATH, []),
        ([RAISED, SENT], HUSH_UP, []),
        ([RAISED, SENT_TO_SOME], SEND_OFF, []),
        ([RAISED, SENT_TO_SOME], FINISH, [FINISHED]),
        ([RAISED, SENT_TO_SOME], RecordFinish(refused=LATE), []),
        ([RAISED, SENT_TO_SOME], RecordFinish(refused=()), [AlertFinished(refused=())]),
        ([RAISED, SENT_TO_SOME, FINISHED], FINISH, []),
        ([RAISED], FINISH, []),
        ([RAISED, DELAYED], FINISH, []),
        ([RAISED, DIED], FINISH, []),
        ([RAISED, DELAYED], DEATH, [DIED]),
        ([RAISED, DIED], DEATH, []),
        ([RAISED, DIED], DELAY, []),
        ([RAISED], HUSH_UP, [SILENCED]),
        ([RAISED, SILENCED], HUSH_UP, []),
        ([RAISED, DIED], SEND_OFF, [SENT]),
        ([RAISED, DIED], RETRY, [RETRIED]),
        ([RAISED, SILENCED], RETRY, [RETRIED]),
        ([RAISED], RETRY, []),
        ([RAISED, DELAYED], RETRY, []),
        ([RAISED, DIED, RETRIED], RETRY, []),
        ([RAISED, DIED, RETRIED], DEATH, [DIED]),
    ],
)
def test_an_alert_is_sent_once_and_stays_what_it_has_become(
    given_events: list[Event], when: Command, then: list[Event]
) -> None:
    assert ALERT.decide(when, ALERT.fold(given_events)) == then


def test_what_was_sent_is_not_retried_and_what_was_never_raised_is_not_known() -> None:
    with pytest.raises(Conflict):
        ALERT.decide(RETRY, ALERT.fold([RAISED, SENT]))
    with pytest.raises(Conflict):
        ALERT.decide(RETRY, ALERT.fold([RAISED, SENT_TO_SOME, FINISHED]))
    for when in (DELAY, DEATH, SEND_OFF, FINISH, HUSH_UP, RETRY, LookAt()):
        with pytest.raises(NotFound):
            ALERT.decide(when, None)


BEGUN = SilenceBegun(
    matcher=Matcher(client="shop"), ends_at=NOW + timedelta(hours=1), reason="test", author="root"
)
ENDED = SilenceEnded(by="root")


@pytest.mark.parametrize(
    ("given_events", "when", "then"),
    [
        ([], BeginSilence(begun=BEGUN, asked_at=NOW), [BEGUN]),
        ([BEGUN], BeginSilence(begun=BEGUN, asked_at=NOW + timedelta(days=1)), []),
        ([BEGUN], EndSilence(by="root"), [ENDED]),
        ([BEGUN, ENDED], EndSilence(by="root"), []),
        ([], BeginSilence(begun=BEGUN, asked_at=BEGUN.ends_at), Conflict),
        ([], EndSilence(by="root"), NotFound),
    ],
)
def test_a_silence_begins_in_time_and_ends_once(
    given_events: list[Any], when: Any, then: list[Any] | type[Rejected]  # noqa: ANN401 - commands
) -> None:  # fmt: skip
    state = SILENCE.fold(given_events)
    if isinstance(then, list):
        assert SILENCE.decide(when, state) == then
    else:
        with pytest.raises(then):
            SILENCE.decide(when, state)


@pytest.mark.parametrize(
    ("matcher", "matches"),
    [
        (Matcher(client="shop"), True),
        (Matcher(rule="luhn"), True),
        (Matcher(client="shop", rule="luhn"), True),
        (Matcher(client="shop", rule="other"), False),
        (Matcher(client="other", rule="luhn"), False),
        (Matcher(client="shops"), False),
    ],
)
def test_all_that_a_matcher_names_has_to_fit(matcher: Matcher, *, matches: bool) -> None:
    assert matcher.matches("shop", ("velocity", "luhn")) is matches


def test_what_is_flagged_is_raised_with_each_rule_once() -> None:
    flagged = TransactionFlagged(score="60", reasons=(FOUND, replace(FOUND, rule="x"), FOUND))
    happened = Happened(event=flagged, stream_id=uuid4(), version=2, recorded_at=NOW)
    assert RAISING.subject(happened) == happened.stream_id
    assert RAISING.after(happened) == [Send(LOG, "raise", {"score": "60", "rules": ["luhn", "x"]})]
    assert RAISING.subject(replace(happened, event=RAISED)) is None


HIT, FAILED = replace(FOUND, kind="hit"), replace(FOUND, rule="x", weight="0", kind="err")
BLOCKED = replace(FOUND, rule="block_list", weight="0", kind="hit")
FAILED_CLOSED = replace(FAILED, rule="y", weight="60")


@pytest.mark.parametrize(
    ("reasons", "named"),
    [
        ((HIT, FAILED), ["luhn"]),
        ((HIT, replace(HIT, rule="z", weight="0")), ["luhn"]),
        ((BLOCKED, FAILED, HIT), ["block_list", "luhn"]),
        ((FAILED, FAILED_CLOSED, HIT), ["luhn"]),
        ((FAILED, FAILED_CLOSED), ["y"]),
        # Nobody kept what kind they were, but those that failed weighed nothing.
        ((FOUND, replace(FAILED, kind="")), ["luhn"]),
    ],
)
def test_a_rule_that_failed_is_no_cause_of_an_alert_and_silences_nothing_that_others_found(
    reasons: tuple[Reason, ...], named: list[str]
) -> None:
    assert causes(reasons) == named
    assert Matcher(rule="x").matches("shop", named) is False


def raised(seconds: float, **changes: Any) -> Happened:  # noqa: ANN401 - fields
    alert = replace(ABOUT, transaction_id=uuid4(), **changes)
    return Happened(
        event=AlertRaised(alert=alert),
        stream_id=alert.id,
        version=1,
        recorded_at=NOW + timedelta(seconds=seconds),
    )


def test_a_channel_is_patient_for_a_day() -> None:
    patience = Patience(first_seconds=5, longest_seconds=3600, at_most_seconds=86_400)
    assert BY_EMAIL.patience == {"email": patience}
    assert BY_SMS.patience == {"sms": patience}


def test_each_channel_follows_its_own_alerts_client_by_client() -> None:
    mine, other, sms = raised(0), raised(0, client="other"), raised(0, channel=Channel.SMS)
    assert BY_EMAIL.subject(mine) == BY_EMAIL.subject(raised(9))
    assert BY_EMAIL.subject(mine) != BY_EMAIL.subject(other)
    assert BY_EMAIL.subject(sms) is None
    assert BY_SMS.subject(sms) == BY_EMAIL.subject(mine)
    assert BY_SMS.subject(mine) is None


class Inbox:
    """A client's mails by a clock that the test moves: reminders fire when they are due."""

    def __init__(self) -> None:
        self.state: Mapping[str, Any] | None = None
        self.due: datetime | None = None
        self.mails: list[tuple[datetime, list[str]]] = []
        self.counted: list[str] = []
        self.waiting: list[Send] = []
        """What is to be sent, while nobody takes it."""
        self.is_away = False
        self.subject = uuid4()

    def happens(self, happened: Happened) -> None:
        self.pass_time(happened.recorded_at)
        self.state = BY_EMAIL.evolve(self.state, happened)
        self._done(BY_EMAIL.react(happened, self.state), happened.recorded_at)

    def pass_time(self, until: datetime) -> None:
        while self.due is not None and self.due <= until:
            due, self.due = self.due, None
            self._fire("digest", due, {"channel": "email"}, due)

    def _done(self, intents: Sequence[Any], now: datetime) -> None:
        for intent in intents:
            if isinstance(intent, Remind):
                self.due = intent.due_at
            else:
                assert (intent.target, intent.action) == ("email", SEND)
                self.waiting.append(intent)
                if not self.is_away:
                    self.come_back(now)

    def come_back(self, now: datetime) -> None:
        """All that waits is taken, and what is due because of that fires."""
        self.is_away = False
        while self.waiting:
            send = self.waiting.pop(0)
            ids = [alert["transaction_id"] for alert in send.data["alerts"]]
            self.mails.append((now, ids))
            self.counted.append(send.data["counted"])
            sent = Sent(key=uuid4(), subject=self.subject, send=send)
            record, over = BY_EMAIL.outcome(sent, Answer(data={"at": now.isoformat()}))
            assert isinstance(record, Send)
            assert isinstance(over, Remind)
            self._fire(over.name, over.due_at, over.data, now)

    def _fire(self, name: str, due: datetime, data: Mapping[str, Any], now: datetime) -> None:
        reminder = Reminder(subject=self.subject, name=name, due_at=due, data=data)
        intents = BY_EMAIL.remind(reminder, self.state)
        self.state = BY_EMAIL.reminded(reminder, self.state)
        self._done(intents, now)


def test_a_thousand_flags_of_a_client_are_three_mails_in_ten_minutes_at_most() -> None:
    inbox = Inbox()
    flags = [raised(nth * 0.06) for nth in range(1000)]
    for flag in flags:
        inbox.happens(flag)
    inbox.pass_time(NOW + timedelta(hours=1))
    assert inbox.mails[0][0] == NOW, "the first goes at once"
    assert len(inbox.mails) <= MAILS_MAX
    named = [each for _, ids in inbox.mails for each in ids]
    assert named == [str(flag.event.alert.transaction_id) for flag in flags]


def test_after_an_outage_no_ten_minutes_have_more_than_three_mails_either() -> None:
    inbox, hours = Inbox(), timedelta(hours=6)
    inbox.is_away = True
    flags = [raised(seconds) for seconds in range(0, 6 * 3600, 60)]
    for flag in flags:
        inbox.happens(flag)
    assert len(inbox.waiting) == 1
    inbox.come_back(NOW + hours)
    flags += [raised(hours.total_seconds() + nth) for nth in range(1, 1200)]
    for flag in flags[-1199:]:
        inbox.happens(flag)
    inbox.pass_time(NOW + 2 * hours)
    named = [each for _, ids in inbox.mails for each in ids]
    assert named == [str(flag.event.alert.transaction_id) for flag in flags]
    times = [time for time, _ in inbox.mails]
    assert all(later - earlier >= APART for earlier, later in pairwise(times))
    for earlier, later in zip(times, times[MAILS_MAX:], strict=False):
        assert later - earlier >= WITHIN


def test_a_digest_that_is_due_waits_until_the_mail_before_it_is_over() -> None:
    inbox = Inbox()
    inbox.is_away = True
    for nth in range(3):
        inbox.happens(raised(nth))
    inbox.pass_time(NOW + timedelta(hours=1))
    assert (len(inbox.waiting), inbox.due) == (1, None)
    inbox.come_back(NOW + timedelta(hours=1))
    assert inbox.due == NOW + timedelta(hours=1) + APART


def test_a_reminder_of_a_digest_that_was_put_off_sends_nothing() -> None:
    """Both may be due together, and that which puts it off comes first."""
    inbox = Inbox()
    inbox.happens(raised(0))
    inbox.happens(raised(1))
    assert inbox.state is not None
    stale = Reminder(
        subject=inbox.subject,
        name="digest",
        due_at=NOW + APART,
        data={"channel": "email", "due": AT},
    )
    assert not BY_EMAIL.remind(stale, inbox.state)
    assert BY_EMAIL.reminded(stale, inbox.state) == inbox.state


def test_whatever_comes_no_ten_minutes_have_more_than_three_mails_and_each_is_named_once() -> None:
    for seed in range(50):
        chance = random.Random(seed)  # noqa: S311 - repeatable
        inbox, seconds, flags = Inbox(), 0.0, list[Happened]()
        for _ in range(200):
            seconds += chance.choice([0.0, 0.5, 5.0, 29.9, 30.0, 61.0, 400.0, 601.0])
            flags.append(raised(seconds))
            inbox.happens(flags[-1])
        inbox.pass_time(NOW + timedelta(seconds=seconds) + 2 * WITHIN)
        named = [each for _, ids in inbox.mails for each in ids]
        assert named == [str(flag.event.alert.transaction_id) for flag in flags]
        times = [time for time, _ in inbox.mails]
        for earlier, later in pairwise(times):
            assert later - earlier >= APART
        for earlier, later in zip(times, times[MAILS_MAX:], strict=False):
            assert later - earlier >= WITHIN


def silenced_by(happened: Happened, counted_at: str | None, seconds: float) -> Happened:
    """What the log says once the mail that told of nothing else did not go."""
    event = AlertSilenced(
        silence_id=HUSH,
        alert=happened.event.alert,
        counted_at=datetime.fromisoformat(counted_at) if counted_at else None,
    )
    return replace(happened, event=event, recorded_at=NOW + timedelta(seconds=seconds))


def counted(alerts: Sequence[Alert], silenced: Sequence[Alert]) -> str | None:
    """When a message counts that did not go out, as far as that is noted."""
    sent = sent_of(*alerts)
    sent = replace(sent, send=replace(sent.send, data={**sent.send.data, "counted": AT}))
    by_silence = {alert.id: HUSH for alert in silenced}
    noted_first = kept_back(sent, by_silence, nothing_else=len(silenced) == len(alerts))
    assert {send.data["of"] for send in noted_first} == set(map(str, by_silence))
    [found] = {send.data["counted"] for send in noted_first}
    return None if found is None else str(found)


AT = NOW.isoformat()


def test_a_mail_counts_unless_all_that_it_would_have_told_of_is_silenced() -> None:
    one, two = ABOUT, replace(ABOUT, transaction_id=uuid4())
    assert counted([one, two], [one, two]) == AT
    assert counted([one, two], [one]) is None


def test_a_mail_that_went_to_some_counts_whatever_is_silenced_then() -> None:
    sent = sent_of(ABOUT)
    sent = replace(sent, send=replace(sent.send, data={**sent.send.data, "counted": AT}))
    _, again, _ = BY_EMAIL.outcome(sent, Answer(data={**NOT_YET, "at": AT}))
    [send] = kept_back(resent(sent, again), {ABOUT.id: HUSH}, nothing_else=True)
    assert send.data["counted"] is None
    silenced = Answer(data={"silenced": [str(ABOUT.id)]})
    assert not BY_EMAIL.outcome(resent(sent, again), silenced), "the log knows it by then"


def test_what_is_silenced_leaves_a_client_its_three_mails() -> None:
    inbox = Inbox()
    for nth in range(10):
        quiet = raised(nth)
        inbox.happens(quiet)
        inbox.happens(silenced_by(quiet, inbox.counted[-1], nth + 0.5))
    assert len(inbox.mails) == 10, "each went at once, to nobody"
    inbox.happens(raised(20))
    assert inbox.mails[-1][0] == NOW + timedelta(seconds=20), "and so does what is told"


def test_what_waits_goes_when_the_mail_before_it_turns_out_to_be_silenced() -> None:
    inbox = Inbox()
    quiet, told = raised(0), raised(1)
    inbox.happens(quiet)
    inbox.happens(told)
    assert inbox.due == NOW + APART
    inbox.happens(silenced_by(quiet, inbox.counted[0], 2))
    assert inbox.due == NOW + timedelta(seconds=2)
    inbox.pass_time(NOW + timedelta(seconds=2))
    assert inbox.mails[-1] == (
        NOW + timedelta(seconds=2), [str(told.event.alert.transaction_id)]
    )  # fmt: skip


def test_a_digest_that_is_silenced_gives_back_its_own_mail_and_once() -> None:
    inbox = Inbox()
    flags = [raised(nth) for nth in range(3)]
    for flag in flags:
        inbox.happens(flag)
    inbox.pass_time(NOW + APART)
    assert len(inbox.mails) == len(inbox.counted) == 2
    for flag in flags[1:]:
        inbox.happens(silenced_by(flag, inbox.counted[1], 31))
    assert inbox.state is not None
    assert inbox.state["mails"] == [NOW.isoformat()]


def test_what_is_silenced_beside_others_changes_nothing() -> None:
    other, unknown = raised(0), silenced_by(raised(0), None, 1)
    assert BY_EMAIL.subject(unknown) is None
    old = replace(unknown, event=AlertSilenced(silence_id=HUSH))
    assert BY_EMAIL.subject(old) is None
    known = silenced_by(other, NOW.isoformat(), 1)
    assert BY_EMAIL.subject(known) == BY_EMAIL.subject(other)
    assert BY_SMS.subject(known) is None


def test_more_than_fit_into_a_mail_do_not_wait() -> None:
    inbox = Inbox()
    for _ in range(2 * TOGETHER_MAX + 2):
        inbox.happens(raised(0))
    assert [len(ids) for _, ids in inbox.mails] == [1, TOGETHER_MAX, TOGETHER_MAX]
    inbox.pass_time(NOW + timedelta(hours=1))
    assert [len(ids) for _, ids in inbox.mails] == [1, TOGETHER_MAX, TOGETHER_MAX, 1]


def sent_of(*alerts: Alert) -> Sent:
    data = {"alerts": [as_json(alert) for alert in alerts]}
    return Sent(key=uuid4(), subject=uuid4(), send=Send("email", SEND, data))


def test_what_became_of_a_mail_is_noted_for_each_alert() -> None:
    one, two = ABOUT, replace(ABOUT, transaction_id=uuid4())
    answer = Answer(
        data={"refused": ["recipient 2: 451"], "again": [2], **SAID, "silenced": [str(two.id)]}
    )
    sent = sent_of(one, two)
    record, again = BY_EMAIL.outcome(sent, answer)
    assert isinstance(record, Send)
    assert isinstance(again, Remind), "which holds nobody's turn"
    assert [(send.action, send.data) for send in noted(record.data)] == [
        ("alerted", {"of": str(one.transaction_id), "channel": "email"}),
        ("sent", {"of": str(one.id), "refused": ["recipient 2: 451"]}),
    ]
    assert again.due_at == NOW + timedelta(seconds=5)
    mail = resent(sent, again)
    assert (mail.send.target, mail.send.action) == ("email", SEND)
    assert mail.send.data.items() >= {**sent.send.data, "only": [2]}.items()


SAID = {"at": NOW.isoformat(), "nobody": False}
FULL = "recipient 2: 452 full"
NOT_YET = {"refused": [FULL], "again": [2], "nobody": True}


def resent(sent: Sent, again: Any) -> Sent:  # noqa: ANN401 - an intent
    """What the reminder has sent; digests know nothing of it."""
    reminder = Reminder(subject=sent.subject, name=again.name, due_at=again.due_at, data=again.data)
    held = {"mails": [], "held": [as_json(ABOUT)], "due": NOW.isoformat(), "going": []}
    assert BY_EMAIL.reminded(reminder, held) == held
    [send] = BY_EMAIL.remind(reminder, held)
    assert isinstance(send, Send)
    return Sent(key=uuid4(), subject=sent.subject, send=send)


def test_who_is_not_to_get_it_yet_is_tried_later_and_later_for_a_day() -> None:
    sent, now, pauses = sent_of(ABOUT), NOW, list[float]()
    while now < NOW + timedelta(days=2):
        answer = Answer(data={**NOT_YET, "at": now.isoformat(), "refused": [f"{FULL} at {now}"]})
        record, *more = BY_EMAIL.outcome(sent, answer)
        assert isinstance(record, Send)
        if not more:
            break
        [(action, data)] = [(send.action, send.data) for send in noted(record.data)]
        assert (action, data["of"]) == ("delay", str(ABOUT.id))
        [again] = more
        assert isinstance(again, Remind)
        pauses.append((again.due_at - now).total_seconds())
        sent, now = resent(sent, again), again.due_at
    assert pauses[:4] == [5, 10, 20, 40]
    assert max(pauses) == pauses[-1] == 3600
    assert timedelta(days=1) <= now - NOW <= timedelta(days=1, hours=1)
    dead, finished = noted(record.data)
    reason = f"given up: {FULL} at {now}"
    assert (dead.action, dead.data["reason"]) == ("dead", reason)
    # Which changes nothing for what is dead.
    assert (finished.action, finished.data["refused"]) == ("finished", [reason])


def test_who_gets_it_after_all_is_noted_with_those_who_never_will() -> None:
    sent = sent_of(ABOUT)
    refused = ["recipient 1: 550", "recipient 2: 451"]
    first = {**SAID, "refused": refused, "again": [2], "nobody": True}
    _, again = BY_EMAIL.outcome(sent, Answer(data=first))
    taken = Answer(data={**SAID, "refused": [], "again": []})
    [record] = BY_EMAIL.outcome(resent(sent, again), taken)
    assert isinstance(record, Send)
    never = refused[:1]
    assert [(send.action, send.data.get("refused")) for send in noted(record.data)] == [
        ("alerted", None),
        ("sent", never),
        ("finished", never),
    ]


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (Answer(refused="550 no"), ["recipient 2, 3: 550 no"]),
        (Answer(data={**SAID, "refused": ["recipient 3: 550"], "again": []}), ["recipient 3: 550"]),
        (Answer(), []),
        (
            Answer(data={**NOT_YET, "at": (NOW + timedelta(days=2)).isoformat()}),
            [f"given up: {FULL}"],
        ),
    ],
    ids=["nobody", "one of them", "all", "after a day"],
)
def test_the_last_word_on_those_who_were_to_get_it_later_is_noted(
    answer: Answer, word: list[str]
) -> None:
    refused = ["recipient 1: 550", "recipient 2: 451", "recipient 3: 451"]
    sent = sent_of(ABOUT)
    first = {**SAID, "refused": refused, "again": [2, 3]}
    record, again = BY_EMAIL.outcome(sent, Answer(data=first))
    assert isinstance(record, Send)
    assert "finished" not in record.data, "as long as it is tried"
    [record] = BY_EMAIL.outcome(resent(sent, again), answer)
    assert isinstance(record, Send)
    [last] = [send.data["refused"] for send in noted(record.data) if send.action == "finished"]
    assert last == ["recipient 1: 550", *word]


def test_mails_that_are_tried_again_do_not_replace_each_other() -> None:
    answer = Answer(data={**SAID, "refused": ["451"], "again": [2]})
    names = {BY_EMAIL.outcome(sent_of(ABOUT), answer)[1].name for _ in range(2)}  # type: ignore[union-attr]
    assert len(names) == 2


def test_a_refused_mail_is_the_death_of_its_alerts_but_of_those_that_are_silenced() -> None:
    one, two = ABOUT, replace(ABOUT, transaction_id=uuid4())
    answer = Answer(refused="550 no", data={"silenced": [str(two.id)]})
    [record] = BY_EMAIL.outcome(sent_of(one, two), answer)
    assert isinstance(record, Send)
    assert [(send.action, send.data) for send in noted(record.data)] == [
        ("dead", {"of": str(one.id), "reason": "550 no"}),
    ]
    record_sent = replace(sent_of(one), send=record)
    assert BY_EMAIL.outcome(record_sent, Answer(refused="whatever")) == ()
