"""What an event causes happens once: from the event to the effect, and back to the log."""

from __future__ import annotations

import math
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import psycopg
import pytest
from prometheus_client import REGISTRY
from psycopg import Connection

from codebase.engine.projections.blame import is_circumstance
from codebase.engine.projections.projector import projector_team
from codebase.engine.reactions import dispatcher
from codebase.engine.reactions.attempt import Attempt, Ended
from codebase.engine.reactions.desk import Desk
from codebase.engine.reactions.figures import ReactionFigures
from codebase.engine.reactions.reaction import (
    Answer,
    Forget,
    Happened,
    Intent,
    Patience,
    Reaction,
    Remind,
    Reminder,
    Send,
    Sent,
)
from codebase.engine.reactions.reading import projector_of
from codebase.engine.reactions.reminders import fire_due
from codebase.engine.reactions.store import REACTION_STORE
from codebase.engine.reactions.taken import Returned
from codebase.operations import intents as operations
from codebase.operations import parked
from tests.clocks import StandingClock
from tests.integration.flow import at_work, eventually, heads, problem_of, projecting, write
from tests.integration.jobs import (
    JOB,
    JOBS,
    LOG,
    SHOP,
    JobAsked,
    JobEnded,
    Shop,
    asked,
    breaker_is_open,
    ids,
    intents,
    job_event,
    outcomes,
    parked_streams,
    reached,
    react,
    read_by_reaction,
    reminders,
    shop_open,
    told_to_act,
    working,
)
from tests.integration.test_reminders import ADD_SUBJECTS, HAVE_ALL_DUE, MANY
from tests.patience import NEVER_SECONDS, PATIENCE_SECONDS

if TYPE_CHECKING:
    from tests.databases import Databases


@pytest.fixture
def databases(databases: Databases) -> Databases:
    return told_to_act(databases)


def test_an_event_has_its_effect_and_the_log_is_told_what_became_of_it(
    databases: Databases, shop: Shop
) -> None:
    jobs = [write(databases, asked(databases.settings, "bread"))[0] for _ in range(3)]
    with working(databases.settings, shop.url):
        eventually(lambda: len(outcomes(databases)) == len(jobs))
        eventually(lambda: all(state == "done" for _, state, _ in intents(databases)))
    assert outcomes(databases) == {job: ["bread done"] for job in jobs}
    assert sorted(shop.done) == sorted((str(job), "bread") for job in jobs)
    assert set(shop.calls.values()) == {1}


def test_a_database_that_was_copied_does_not_act_before_it_is_told_to(
    new_databases: Callable[[], Databases], shop: Shop
) -> None:
    clone = new_databases()
    write(clone, asked(clone.settings, "bread"))
    with working(clone.settings, shop.url) as team:
        eventually(lambda: "orderly reactions adopt" in (team.problem() or ""))
        assert not shop.done
        with clone.as_owner() as owner:
            owner.execute("SELECT reaction.adopt()")
        eventually(lambda: list(outcomes(clone).values()) == [["bread done"]])


def test_who_begins_to_lead_in_a_database_that_was_copied_writes_nothing(
    new_databases: Callable[[], Databases],
) -> None:
    clone = new_databases()
    with projecting(clone.settings, projector_of(JOBS)) as team:
        eventually(lambda: "orderly reactions adopt" in (problem_of(team) or ""))
        assert reached(clone) == {}
        told_to_act(clone)
        eventually(lambda: reached(clone) == heads(clone))


def test_who_stood_by_while_the_database_became_another_does_not_begin(
    databases: Databases,
) -> None:
    seldom = databases.settings.model_copy(update={"read_model_check_seconds": NEVER_SECONDS})
    first = projector_team(seldom, projector_of(JOBS))
    with at_work(first):
        eventually(lambda: reached(databases) == heads(databases))
        second = projector_team(seldom, projector_of(JOBS))
        with at_work(second):
            eventually(lambda: problem_of(second) is None)
            with databases.as_owner() as owner:
                owner.execute("DELETE FROM reaction.place")
            first.stop(PATIENCE_SECONDS)
            eventually(lambda: "orderly reactions adopt" in (problem_of(second) or ""))


def test_what_was_recorded_before_a_reaction_begins_is_remembered_and_causes_nothing(
    databases: Databases, shop: Shop
) -> None:
    [old] = write(databases, asked(databases.settings, "bread"))
    with databases.as_owner() as owner:
        [(since,)] = owner.execute("SELECT clock_timestamp()").fetchall()
    write(databases, asked(databases.settings, "cake", job=old, after=1))
    with working(databases.settings, shop.url, replace(JOBS, since=since)):
        eventually(lambda: outcomes(databases) == {old: ["cake done"]})
    assert shop.done == [(str(old), "cake")]
    with databases.as_owner() as owner:
        caused = owner.execute("SELECT data ->> 'nth' FROM reaction.intent ORDER BY number")
        assert caused.fetchone() == ("2",)


def test_a_closed_log_is_not_acted_on(databases: Databases, shop: Shop) -> None:
    write(databases, asked(databases.settings, "bread"))
    with databases.as_owner() as owner:
        owner.execute("SELECT close_log()")
        with working(databases.settings, shop.url) as team:
            eventually(lambda: "the log is closed" in (team.problem() or ""))
            assert not shop.done
            assert not intents(databases)
            owner.execute("SELECT open_log()")
            eventually(lambda: shop.done)


def test_what_one_job_causes_is_done_in_order_and_others_do_not_wait_for_it(
    databases: Databases, shop: Shop
) -> None:
    refusing = threading.Event()
    refusing.set()
    shop.manner = lambda body, _nth: (
        "fail" if body["what"] == "second" and refusing.is_set() else "do"
    )
    [slow, *_] = write(databases, asked(databases.settings, "first", "second", "third"))
    with working(databases.settings, shop.url):
        eventually(lambda: max(shop.calls.values(), default=0) > 1)
        [quick] = write(databases, asked(databases.settings, "bread"))
        eventually(lambda: outcomes(databases).get(quick) == ["bread done"])
        assert [what for job, what in shop.done if job == str(slow)] == ["first"]
        refusing.clear()
        eventually(lambda: len(shop.done) == 4)
    assert [what for job, what in shop.done if job == str(slow)] == ["first", "second", "third"]


@pytest.mark.parametrize("asks", [True, False], ids=["inquiry", "no inquiry"])
def test_a_connection_cut_after_acting_has_no_second_effect(
    databases: Databases, shop: Shop, *, asks: bool
) -> None:
    shop.manner = lambda _body, nth: "cut" if nth == 1 else "do"
    [job] = write(databases, asked(databases.settings, "bread"))
    with working(databases.settings, shop.url, asks=asks):
        eventually(lambda: outcomes(databases).get(job) == ["bread done"])
    assert shop.done == [(str(job), "bread")]
    # Who is asked is not called again; who cannot be asked takes the same key again.
    assert list(shop.inquiries.values()) == ([1] if asks else [])
    assert list(shop.calls.values()) == [1 if asks else 2]


@pytest.mark.parametrize("asks", [True, False], ids=["inquiry", "no inquiry"])
def test_a_target_that_acts_and_then_hangs_has_no_second_effect_and_keeps_order(
    databases: Databases, shop: Shop, *, asks: bool
) -> None:
    shop.manner = lambda _body, nth: "do and hang" if nth == 1 else "do"
    [job, *_] = write(databases, asked(databases.settings, "first", "second"))
    # Its deadline is the only one that passes here.
    with working(databases.settings, shop.url, asks=asks, deadline_seconds=1.5):
        eventually(lambda: {state for _, state, _ in intents(databases)} == {"done"})
    assert shop.done == [(str(job), "first"), (str(job), "second")]
    assert outcomes(databases) == {job: ["first done"]}
    assert bool(shop.inquiries) is asks


def test_others_are_served_by_a_target_that_hangs_for_one_of_them(
    databases: Databases, shop: Shop
) -> None:
    shop.manner = lambda body, _nth: "hang" if body["what"] == "stuck" else "do"
    [stuck, *_] = write(databases, asked(databases.settings, "stuck", "after"))
    with working(databases.settings, shop.url):
        eventually(lambda: shop.calls)
        others = {write(databases, asked(databases.settings, "bread"))[0] for _ in range(10)}
        eventually(lambda: outcomes(databases).keys() == others)
    assert {job for job, _ in shop.done} == {str(each) for each in others}
    assert stuck not in outcomes(databases)


def test_a_target_that_hangs_is_left_alone_and_others_go_on(
    databases: Databases, shop: Shop
) -> None:
    hanging = threading.Event()
    hanging.set()
    shop.manner = lambda _body, _nth: "hang" if hanging.is_set() else "do"
    jobs = [write(databases, asked(databases.settings, "bread"))[0] for _ in range(8)]
    # Its deadline is the only one that passes here.
    with working(databases.settings, shop.url, deadline_seconds=0.3):
        eventually(lambda: breaker_is_open(SHOP))
        called = sum(shop.calls.values())
        # By another target a reminder has its job given up meanwhile.
        late = uuid4()
        ask = job_event(databases.settings, late, 1, JobAsked(what="bread", seconds=0))
        write(databases, [ask])
        eventually(lambda: outcomes(databases).get(late) == ["given up"])
        eventually(lambda: sum(shop.calls.values()) > called)  # one finds out, after a pause
        hanging.clear()
        eventually(lambda: len(outcomes(databases)) == len(jobs) + 1)
        assert not breaker_is_open(SHOP)
    assert sorted(shop.done) == sorted((str(job), "bread") for job in jobs)


def test_a_target_that_is_away_costs_no_attempt(
    databases: Databases, free_port: Callable[[], int]
) -> None:
    hasty = databases.settings.model_copy(update={"reaction_attempts_max": 1})
    [job] = write(databases, asked(databases.settings, "bread"))
    port = free_port()
    with working(hasty, f"http://127.0.0.1:{port}"):
        eventually(lambda: breaker_is_open(SHOP))
        assert [(state, reason) for _, state, reason in intents(databases)] == [
            ("waiting", "is away")
        ]
        with shop_open(port) as shop:
            eventually(lambda: outcomes(databases).get(job) == ["bread done"])
            assert list(shop.calls.values()) == [1]


def test_whoever_rests_is_due_when_the_target_answers_again(
    databases: Databases, free_port: Callable[[], int]
) -> None:
    port = free_port()
    waiting = [write(databases, asked(databases.settings, "bread"))[0] for _ in range(6)]
    with working(databases.settings, f"http://127.0.0.1:{port}"):
        eventually(lambda: breaker_is_open(SHOP))
        with databases.as_owner() as owner:
            # As if they had been tried in vain for hours.
            rests = "UPDATE reaction.intent SET due_at = clock_timestamp() + interval '1 day'"
            eventually(lambda: owner.execute(f"{rests} WHERE token IS NULL").rowcount == 6)
        with shop_open(port):
            [late] = write(databases, asked(databases.settings, "bread"))
            eventually(lambda: outcomes(databases).keys() == {*waiting, late})


def test_what_is_in_doubt_keeps_its_own_pause_when_the_target_answers_again(
    databases: Databases,
) -> None:
    for _ in range(2):
        write(databases, asked(databases.settings, "bread"))
    read_by_reaction(databases)
    desk = Desk(JOBS, attempts_max=20)
    with store_of(databases) as store:
        hung, rested = desk.take(store, SHOP, 10, lease_seconds=3600)
        desk.settle(
            store,
            [
                Returned(taken=hung, attempt=Attempt(ended=Ended.IN_DOUBT, reason="no answer")),
                Returned(taken=rested, attempt=Attempt(ended=Ended.NOT_SENT, reason="is away")),
            ],
        )
        store.execute("UPDATE intent SET due_at = clock_timestamp() + interval '1 day'")
        desk.hurry(store, SHOP)
        again = desk.take(store, SHOP, 10, lease_seconds=3600)
    assert [each.number for each in again] == [rested.number]


def test_a_target_that_only_knows_itself_is_asked_for_ever(
    databases: Databases, shop: Shop
) -> None:
    hasty = databases.settings.model_copy(update={"reaction_attempts_max": 1})
    shop.manner = lambda _body, nth: "fail" if nth <= 3 else "do"
    [job] = write(databases, asked(databases.settings, "bread"))
    with working(hasty, shop.url, replace(JOBS, insists_on=frozenset({SHOP}))):
        eventually(lambda: outcomes(databases).get(job) == ["bread done"])
    assert list(shop.calls.values()) == [4]


def test_what_is_refused_is_parked_and_what_follows_it_waits(
    databases: Databases, shop: Shop
) -> None:
    shop.manner = lambda body, _nth: "refuse" if body["what"] == "second" else "do"
    write(databases, asked(databases.settings, "first", "second", "third"))
    with working(databases.settings, shop.url):
        eventually(lambda: "parked" in [state for _, state, _ in intents(databases)])
        [quick] = write(databases, asked(databases.settings, "bread"))
        eventually(lambda: quick in outcomes(databases))
    found = {(target, state, reason) for target, state, reason in intents(databases)}
    assert (SHOP, "parked", "refused: 409 not here") in found
    assert [what for _, what in shop.done] == ["first", "bread"]


def test_what_fails_too_often_is_parked(databases: Databases, shop: Shop) -> None:
    shop.manner = lambda _body, _nth: "fail"
    impatient = databases.settings.model_copy(update={"reaction_attempts_max": 2})
    write(databases, asked(databases.settings, "bread"))
    with working(impatient, shop.url):
        eventually(
            lambda: intents(databases) == [(SHOP, "parked", "2 attempts, the last: answered 500")]
        )
    assert list(shop.calls.values()) == [2]


def raise_for_poison(happened: Happened) -> None:
    if happened.event == JobAsked(what="poison"):
        raise ValueError("nobody knows what that means")


def subject_that_raises(happened: Happened) -> UUID:
    raise_for_poison(happened)
    return happened.stream_id


def evolve_that_raises(state: Any, happened: Happened) -> Any:  # noqa: ANN401 - JSON
    raise_for_poison(happened)
    return JOBS.evolve(state, happened)


def react_to_what_is_no_intent(happened: Happened, state: Any) -> Any:  # noqa: ANN401 - JSON
    is_poison = happened.event == JobAsked(what="poison")
    return ["do it"] if is_poison else react(happened, state)


@pytest.mark.parametrize(
    "reaction",
    [
        JOBS,
        replace(JOBS, subject=subject_that_raises),
        replace(JOBS, evolve=evolve_that_raises),
        replace(JOBS, react=react_to_what_is_no_intent),
    ],
    ids=["react", "subject", "evolve", "no intent"],
)
def test_a_reaction_that_raises_has_its_stream_parked_and_everything_else_flows(
    databases: Databases, shop: Shop, reaction: Reaction
) -> None:
    job = uuid4()
    write(databases, asked(databases.settings, "poison", "after", job=job))
    [good] = write(databases, asked(databases.settings, "bread"))
    with working(databases.settings, shop.url, reaction):
        eventually(lambda: outcomes(databases).get(good) == ["bread done"])
        eventually(lambda: parked_streams(databases) == {job})
    assert shop.done == [(str(good), "bread")]


@dataclass(frozen=True, kw_only=True, slots=True)
class JobOfTomorrow:
    what: str
    seconds: float | None = None


def test_an_event_that_the_reaction_does_not_know_is_parked_until_it_does(
    databases: Databases, shop: Shop
) -> None:
    new, later = asked(databases.settings, "cake", "bread")
    new.type = JobOfTomorrow.__name__
    [job, *_] = write(databases, [new, later])
    with working(databases.settings, shop.url):
        eventually(lambda: parked_streams(databases) == {job})
        [good] = write(databases, asked(databases.settings, "bread"))
        eventually(lambda: good in outcomes(databases))
    assert shop.done == [(str(good), "bread")]
    upgraded = replace(
        JOBS,
        aggregates=(replace(JOB, events=(*JOB.events, JobOfTomorrow)),),
        evolve=lambda state, happened: JOBS.evolve(state, of_today(happened)),
        react=lambda happened, state: react(of_today(happened), state),
    )
    assert parked.retry(databases.settings, projector_of(upgraded), job) == 2
    with working(databases.settings, shop.url, upgraded):
        eventually(lambda: len(shop.done) == 3)
    assert shop.done[1:] == [(str(job), "cake"), (str(job), "bread")]


def of_today(happened: Happened) -> Happened:
    if isinstance(happened.event, JobOfTomorrow):
        return replace(happened, event=JobAsked(what=happened.event.what))
    return happened


def test_an_outcome_that_raises_is_parked_and_repaired_without_a_second_effect(
    databases: Databases, shop: Shop
) -> None:
    def fail(*_: object) -> tuple[()]:
        raise KeyError("a bug")

    [job] = write(databases, asked(databases.settings, "bread"))
    with working(databases.settings, shop.url, replace(JOBS, outcome=fail)):
        eventually(lambda: [state for _, state, _ in intents(databases)] == ["parked"])
    [(_, _, reason)] = intents(databases)
    assert reason is not None
    assert reason.startswith("what follows from the answer: KeyError")
    assert operations.retry(databases.settings, None) == 1
    with working(databases.settings, shop.url):
        eventually(lambda: outcomes(databases) == {job: ["bread done"]})
    assert list(shop.calls.values()) == [1]
    assert list(shop.inquiries.values()) == [1]


def test_what_reads_and_sends_goes_on_while_a_hundred_thousand_reminders_are_due(
    databases: Databases, shop: Shop
) -> None:
    """Of jobs that are asked for before the first and in the middle none waits for the last."""
    with databases.as_owner() as owner:
        owner.execute(ADD_SUBJECTS, [MANY])
        owner.execute(HAVE_ALL_DUE)
        owner.execute("ANALYZE reaction.subject, reaction.reminder")
    # How many have fired when more jobs are asked for, and how it is known that they were read.
    gates = {0: threading.Event(), MANY // 2: threading.Event()}
    fired: list[UUID] = []
    fired_before: dict[str, int] = {}

    def note(reminder: Reminder, _state: object) -> tuple[()]:
        if gate := gates.get(len(fired)):
            assert gate.wait(PATIENCE_SECONDS)
        fired.append(reminder.subject)
        return ()

    def do(body: Mapping[str, Any], _nth: int) -> str:
        fired_before[body["what"]] = len(fired)
        return "do"

    shop.manner = do
    jobs: list[UUID] = []
    with working(databases.settings, shop.url, replace(JOBS, remind=note)):
        for turn, (begins_at, gate) in enumerate(gates.items(), 1):
            eventually(lambda begins_at=begins_at: len(fired) >= begins_at)
            for number in range(10):
                things = (f"bread {turn} {number}", f"butter {turn} {number}")
                jobs += write(databases, asked(databases.settings, *things))[:1]
            eventually(lambda turn=turn: subjects_of_intents(databases) == 10 * turn)
            gate.set()
        eventually(lambda: set(outcomes(databases)) == set(jobs))
        eventually(lambda: not any_reminder(databases))
    assert len(fired_before) == 40
    assert max(fired_before.values()) < MANY
    assert len(set(fired)) == len(fired) == MANY


def test_whoever_rests_does_all_that_is_there_before(databases: Databases, shop: Shop) -> None:
    """Of ten things two fit into a look, and the rest after the last look never ends."""
    resting = replace(JOBS, rest_seconds=NEVER_SECONDS)
    few = databases.settings.model_copy(update={"reaction_in_flight": 2})
    for _ in range(10):
        write(databases, asked(databases.settings, "bread"))
    read_by_reaction(databases, resting)
    with working(few, shop.url, resting):
        eventually(lambda: len(shop.done) == 10)


def subjects_of_intents(databases: Databases) -> int:
    return len(ids(databases, "SELECT DISTINCT subject FROM reaction.intent"))


def any_reminder(databases: Databases) -> set[UUID]:
    return ids(databases, "SELECT subject FROM reaction.reminder LIMIT 1")


def test_a_reminder_fires_once_and_one_whose_reason_is_gone_does_nothing(
    databases: Databases, shop: Shop
) -> None:
    late, done, later = uuid4(), uuid4(), uuid4()
    settings = databases.settings
    write(databases, [job_event(settings, late, 1, JobAsked(what="bread", seconds=0))])
    write(databases, [job_event(settings, later, 1, JobAsked(what="bread", seconds=3600))])
    write(databases, [job_event(settings, done, 1, JobAsked(what="bread", seconds=3600))])
    write(databases, [job_event(settings, done, 2, JobEnded(outcome="by hand"))])
    with working(settings, shop.url):
        eventually(lambda: outcomes(databases).get(late) == ["given up"])
        eventually(lambda: reminders(databases) == {later})
    assert outcomes(databases) == {late: ["given up"], done: ["by hand"]}


def test_a_reminder_that_is_due_after_its_reason_has_gone_causes_nothing(
    databases: Databases, shop: Shop
) -> None:
    """So a reaction that forgets no reminder is right as well."""
    job = uuid4()
    forgetful = replace(
        JOBS,
        react=lambda happened, state: [
            each for each in react(happened, state) if not isinstance(each, Forget)
        ],
    )
    settings = databases.settings
    write(databases, [job_event(settings, job, 1, JobAsked(what="bread", seconds=0))])
    write(databases, [job_event(settings, job, 2, JobEnded(outcome="by hand"))])
    with working(settings, shop.url, forgetful):
        eventually(lambda: reached(databases) == heads(databases))
        eventually(lambda: not reminders(databases))
    assert outcomes(databases) == {job: ["by hand"]}
    assert not intents(databases)


def test_many_reminders_that_are_due_together_each_fire_once(
    databases: Databases, shop: Shop
) -> None:
    count = 2_000
    settings = databases.settings
    for _ in range(count // 500):
        write(
            databases,
            [
                job_event(settings, uuid4(), 1, JobAsked(what="bread", seconds=0))
                for _ in range(500)
            ],
        )
    with working(settings, shop.url), working(settings, shop.url):
        eventually(lambda: len(outcomes(databases)) == count)
    assert all(ended == ["given up"] for ended in outcomes(databases).values())
    assert not reminders(databases)


def test_what_was_done_long_ago_is_forgotten_in_batches(databases: Databases, shop: Shop) -> None:
    write(databases, asked(databases.settings, "bread"))
    with working(databases.settings, shop.url):
        eventually(lambda: [state for _, state, _ in intents(databases)] == ["done", "done"])
    with databases.as_owner() as owner:
        owner.execute("UPDATE reaction.intent SET ended_at = ended_at - interval '31 days'")
    with working(databases.settings, shop.url):
        eventually(lambda: not intents(databases))


@pytest.mark.parametrize(
    ("seconds", "is_all", "left"),
    [(60.0, True, 0), (0.0, False, 3)],
    ids=["all there is", "as long as there is time"],
)
def test_what_was_done_long_ago_is_forgotten_batch_after_batch(
    databases: Databases, seconds: float, left: int, *, is_all: bool
) -> None:
    for _ in range(5):
        write(databases, asked(databases.settings, "bread"))
    read_by_reaction(databases)
    with databases.as_owner() as owner:
        owner.execute(
            "UPDATE reaction.intent SET state = 'done', is_next = false,"
            " ended_at = clock_timestamp() - interval '31 days'"
        )
    desk = Desk(JOBS, attempts_max=20, clock=StandingClock())
    with store_of(databases) as store:
        assert desk.forget_done(store, days=30, limit=2, seconds=seconds) is is_all
    assert len(intents(databases)) == left


def test_who_comes_back_after_the_end_of_the_lease_changes_nothing(
    databases: Databases,
) -> None:
    write(databases, asked(databases.settings, "bread"))
    desk = Desk(JOBS, attempts_max=20)
    read_by_reaction(databases)
    url = databases.settings.required("write_model_reaction_url")
    with psycopg.connect(url, autocommit=True, options=REACTION_STORE.options) as store:
        [late] = desk.take(store, SHOP, 10, lease_seconds=-1)
        assert not late.sent.in_doubt
        [again] = desk.take(store, SHOP, 10, lease_seconds=3600)
        assert again.sent.in_doubt
        assert again.sent.attempts == 2
        assert desk.take(store, SHOP, 10, lease_seconds=3600) == []
        answer = Attempt(ended=Ended.ANSWERED, answer=Answer(data={"became": "done"}))
        desk.settle(store, [Returned(taken=late, attempt=answer)])
        assert intents(databases) == [(SHOP, "waiting", None)]
        desk.settle(store, [Returned(taken=again, attempt=answer)])
        assert intents(databases) == [(SHOP, "done", None), (LOG, "waiting", None)]


def test_an_orderly_end_leaves_no_claim_and_is_no_attempt(
    databases: Databases, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It ends as soon as what is cut off has come back.
    monkeypatch.setattr(dispatcher, "CUT_OFF_SECONDS", PATIENCE_SECONDS)
    shop.manner = lambda _body, nth: "hang" if nth == 1 else "do"
    [job] = write(databases, asked(databases.settings, "bread"))
    with working(databases.settings, shop.url, deadline_seconds=NEVER_SECONDS):
        eventually(lambda: shop.calls)
    with databases.as_owner() as owner:
        left = owner.execute(
            "SELECT state, in_doubt, attempts, token IS NULL,"
            " due_at > clock_timestamp() FROM reaction.intent"
        ).fetchall()
        assert left == [("waiting", True, 0, True, True)]
        owner.execute("UPDATE reaction.intent SET due_at = clock_timestamp()")
    with working(databases.settings, shop.url):
        eventually(lambda: outcomes(databases) == {job: ["bread done"]})
    assert list(shop.inquiries.values()) == [1]


def test_who_has_nothing_to_do_knows_for_how_long(databases: Databases) -> None:
    desk = Desk(JOBS, attempts_max=20)
    with store_of(databases) as store:
        assert desk.seconds_until_due(store, [SHOP, LOG], HOUR) == math.inf
        write(databases, asked(databases.settings, "bread"))
        read_by_reaction(databases)
        with databases.as_owner() as owner:
            owner.execute("DELETE FROM reaction.reminder")
        assert desk.seconds_until_due(store, [SHOP, LOG], HOUR) <= 0
        assert desk.seconds_until_due(store, [LOG], HOUR) == math.inf
        desk.take(store, SHOP, 10, lease_seconds=3600)
        assert 0 < desk.seconds_until_due(store, [SHOP, LOG], HOUR) <= HOUR
        assert desk.seconds_until_due(store, [SHOP, LOG], 1.0) == math.inf
        with databases.as_owner() as owner:
            owner.execute(
                "INSERT INTO reaction.reminder (reaction, subject, name, key, due_at, data)"
                " SELECT reaction, subject, 'soon', gen_random_uuid(),"
                " clock_timestamp() - interval '1 s', '{}' FROM reaction.intent"
            )
        assert desk.seconds_until_due(store, [SHOP, LOG], HOUR) <= 0


HOUR = 3600.0


@contextmanager
def store_of(databases: Databases) -> Iterator[Connection[Any]]:
    url = databases.settings.required("write_model_reaction_url")
    with psycopg.connect(url, autocommit=True, options=REACTION_STORE.options) as store:
        yield store


def states(databases: Databases) -> list[tuple[str, bool, int, bool]]:
    """(state, in doubt, attempts, rests for long) of all intents, in their order."""
    with databases.as_owner() as owner:
        return owner.execute(
            "SELECT state, in_doubt, attempts, due_at > clock_timestamp() + interval '10 s'"
            " FROM reaction.intent ORDER BY number"
        ).fetchall()


def too_long_for_an_index() -> str:
    """Postgres says that this exceeds a limit of its own, which psycopg takes for operational."""
    return secrets.token_hex(10_000)


ANSWERED = Attempt(ended=Ended.ANSWERED, answer=Answer(data={"became": "done"}))


def test_a_refusal_that_is_no_text_is_parked_and_everything_else_flows(
    databases: Databases, shop: Shop
) -> None:
    shop.manner = lambda body, _nth: "mumble" if body["what"] == "riddle" else "do"
    write(databases, asked(databases.settings, "riddle"))
    [good] = write(databases, asked(databases.settings, "bread"))
    with working(databases.settings, shop.url):
        eventually(lambda: outcomes(databases).get(good) == ["bread done"])
        eventually(lambda: (SHOP, "parked", "refused: 409 ??") in intents(databases))


def test_what_cannot_be_written_keeps_nobody_else_from_being_settled(
    databases: Databases,
) -> None:
    for _ in range(2):
        write(databases, asked(databases.settings, "bread"))
    read_by_reaction(databases)
    desk = Desk(JOBS, attempts_max=1)
    with store_of(databases) as store:
        bad, good = desk.take(store, SHOP, 10, lease_seconds=3600)
        half_a_pair = Attempt(ended=Ended.FAILED, reason="\ud800")
        attempts = [(bad, half_a_pair), (good, ANSWERED)]
        desk.settle(store, [Returned(taken=taken, attempt=ended) for taken, ended in attempts])
    with databases.as_owner() as owner:
        found = dict(owner.execute("SELECT number, state FROM reaction.intent").fetchall())
    assert (found[bad.number], found[good.number]) == ("parked", "done")


def test_a_subject_that_somebody_keeps_keeps_nobody_else_from_being_settled(
    databases: Databases,
) -> None:
    kept = write(databases, asked(databases.settings, "bread"))[0]
    write(databases, asked(databases.settings, "bread"))
    read_by_reaction(databases)
    desk = Desk(JOBS, attempts_max=20)
    with store_of(databases) as store, databases.as_owner() as owner:
        taken = desk.take(store, SHOP, 10, lease_seconds=3600)
        returned = [Returned(taken=each, attempt=ANSWERED) for each in taken]
        with owner.transaction():
            owner.execute("SELECT FROM reaction.subject WHERE id = %s FOR UPDATE", [kept])
            left = desk.settle(store, returned)
            assert [each.taken.sent.subject for each in left] == [kept]
        assert desk.settle(store, left) == []
    assert [state for target, state, _ in intents(databases) if target == SHOP] == ["done"] * 2


def test_a_subject_that_somebody_keeps_is_no_fault_of_its_events(databases: Databases) -> None:
    hasty = databases.settings.model_copy(update={"max_attempts": 1})
    [job] = write(databases, asked(databases.settings, "bread"))
    read_by_reaction(databases)
    write(databases, asked(databases.settings, "cake", job=job, after=1))
    with databases.as_owner() as owner, projecting(hasty, projector_of(JOBS)) as team:
        with owner.transaction():
            owner.execute("SELECT FROM reaction.subject WHERE id = %s FOR UPDATE", [job])
            eventually(lambda: "LockNotAvailable" in (problem_of(team) or ""))
        eventually(lambda: reached(databases) == heads(databases))
    assert not parked_streams(databases)


def test_who_is_stopped_in_a_transaction_does_not_keep_its_subjects(databases: Databases) -> None:
    write(databases, asked(databases.settings, "bread"))
    read_by_reaction(databases)
    url = databases.settings.required("write_model_reaction_url")
    with store_of(databases) as store:
        [(limit,)] = store.execute("SHOW idle_in_transaction_session_timeout").fetchall()
    assert limit != "0"
    # What becomes of the one who was stopped, when he goes on: he is not to blame the event.
    with psycopg.connect(url, options=REACTION_STORE.options) as stopped:
        stopped.execute("SELECT FROM subject FOR UPDATE")
        stopped.execute("SET idle_in_transaction_session_timeout = '1ms'")
        with databases.as_owner() as owner:
            owner.execute("UPDATE reaction.subject SET state = state")
        with pytest.raises(psycopg.Error) as found:
            stopped.execute("SELECT")
    assert is_circumstance(found.value)


def test_what_postgres_has_no_place_for_keeps_nobody_else_from_being_settled(
    databases: Databases,
) -> None:
    bad = write(databases, asked(databases.settings, "bread"))[0]
    write(databases, asked(databases.settings, "bread"))
    read_by_reaction(databases)
    target = too_long_for_an_index()
    greedy = replace(
        JOBS,
        outcome=lambda sent, _answer: [Send(target, "do")] if sent.subject == bad else [],
    )
    desk = Desk(greedy, attempts_max=20)
    with store_of(databases) as store:
        taken = desk.take(store, SHOP, 10, lease_seconds=3600)
        desk.settle(store, [Returned(taken=each, attempt=ANSWERED) for each in taken])
    found = {(state, (reason or "")[:20]) for _, state, reason in intents(databases)}
    assert found == {("parked", "ProgramLimitExceeded"), ("done", "")}


def test_a_reminder_whose_effect_has_no_place_is_parked_and_others_fire(
    databases: Databases, shop: Shop
) -> None:
    bad, good = uuid4(), uuid4()
    for job in (bad, good):
        write(databases, [job_event(databases.settings, job, 1, JobAsked(what="x", seconds=0))])
    target = too_long_for_an_index()
    greedy = replace(
        JOBS,
        remind=lambda reminder, state: (
            [Send(target, "do")] if reminder.subject == bad else JOBS.remind(reminder, state)
        ),
    )
    with working(databases.settings, shop.url, greedy):
        eventually(lambda: outcomes(databases) == {good: ["given up"]})
        eventually(lambda: reminders(databases) == {bad})
    with databases.as_owner() as owner:
        [reason] = owner.execute("SELECT reason FROM reaction.reminder").fetchall()[0]
    assert reason.startswith("ProgramLimitExceeded")


def test_what_ends_the_process_of_everybody_who_tries_it_is_parked_and_not_sent(
    databases: Databases,
) -> None:
    write(databases, asked(databases.settings, "bread"))
    read_by_reaction(databases)
    desk = Desk(JOBS, attempts_max=2)
    with store_of(databases) as store:
        assert len(desk.take(store, SHOP, 10, lease_seconds=-1)) == 1
        assert len(desk.take(store, SHOP, 10, lease_seconds=-1)) == 1
        assert desk.take(store, SHOP, 10, lease_seconds=-1) == []
    reason = "2 attempts, the last: the process ended while it was being done"
    assert intents(databases) == [(SHOP, "parked", reason)]
    assert [in_doubt for _, in_doubt, _, _ in states(databases)] == [True]


def try_often(
    databases: Databases, desk: Desk, times: int, ended: Ended, *, target_answers: bool
) -> None:
    """Let an attempt end like this so many times, as if its pauses were over."""
    attempt = Attempt(ended=ended, reason="no")
    with store_of(databases) as store:
        for _ in range(times):
            store.execute("UPDATE intent SET due_at = statement_timestamp()")
            [taken] = desk.take(store, SHOP, 10, lease_seconds=3600)
            returned = Returned(taken=taken, attempt=attempt, target_answers=target_answers)
            desk.settle(store, [returned])


@pytest.mark.parametrize("ended", [Ended.NOT_SENT, Ended.NOT_ALLOWED, Ended.IN_DOUBT])
def test_pauses_grow_though_a_target_that_is_away_costs_no_attempt(
    databases: Databases, ended: Ended
) -> None:
    write(databases, asked(databases.settings, "bread"))
    read_by_reaction(databases)
    try_often(databases, Desk(JOBS, attempts_max=2), 9, ended, target_answers=False)
    assert states(databases) == [("waiting", ended is Ended.IN_DOUBT, 0, True)]


def test_what_alone_is_forbidden_is_parked(databases: Databases, shop: Shop) -> None:
    shop.manner = lambda _body, _nth: "forbid"
    impatient = databases.settings.model_copy(update={"reaction_attempts_max": 2})
    write(databases, asked(databases.settings, "bread"))
    with working(impatient, shop.url):
        eventually(
            lambda: intents(databases) == [(SHOP, "parked", "2 attempts, the last: answered 403")]
        )
    assert [in_doubt for _, in_doubt, _, _ in states(databases)] == [False]


def test_an_inquiry_that_is_refused_is_no_refusal_of_the_effect(
    databases: Databases, shop: Shop
) -> None:
    shop.manner = lambda _body, _nth: "cut"
    shop.unwilling = 1
    [job] = write(databases, asked(databases.settings, "bread"))
    with working(databases.settings, shop.url):
        eventually(lambda: outcomes(databases).get(job) == ["bread done"])
    assert list(shop.calls.values()) == [1]
    assert list(shop.inquiries.values()) == [2]


def test_what_waits_for_a_target_that_nobody_opens_is_told(
    databases: Databases, shop: Shop
) -> None:
    lost: Reaction = replace(JOBS, react=lambda _happened, _state: [Send("nowhere", "do")])
    write(databases, asked(databases.settings, "bread"))
    read_by_reaction(databases, lost)
    with working(databases.settings, shop.url, lost) as team:
        eventually(lambda: "not opened here: ['nowhere']" in (team.problem() or ""))


def test_figures_that_take_too_long_stay_as_they_were(databases: Databases) -> None:
    def told() -> float | None:
        labels = {"reaction": "jobs", "target": SHOP}
        return REGISTRY.get_sample_value("orderly_reaction_waiting", labels)

    write(databases, asked(databases.settings, "bread"))
    read_by_reaction(databases)
    seconds = iter(range(0, 10_000, 1_000))
    figures = ReactionFigures("jobs", [SHOP], clock=lambda: float(next(seconds)))
    with store_of(databases) as store, databases.as_owner() as owner:
        figures.show(store)
        assert told() == 1
        store.execute("SET statement_timeout = '50ms'")
        with owner.transaction():
            owner.execute("LOCK TABLE reaction.intent")
            figures.show(store)
        assert told() == 1


def test_a_state_that_is_changed_in_its_place_changes_nothing_that_was_caused_before(
    databases: Databases,
) -> None:
    def count(state: dict[str, int] | None, _happened: Happened) -> Mapping[str, int]:
        known = state or {"asked": 0}
        known["asked"] += 1
        return known

    counting = replace(JOBS, evolve=count, react=lambda _happened, state: [Send(SHOP, "do", state)])
    write(databases, asked(databases.settings, "first", "second", "third"))
    read_by_reaction(databases, counting)
    with databases.as_owner() as owner:
        found = owner.execute("SELECT data FROM reaction.intent ORDER BY number").fetchall()
    assert [data["asked"] for (data,) in found] == [1, 2, 3]


PATIENT = replace(
    JOBS,
    patience={SHOP: Patience(first_seconds=5.0, longest_seconds=40.0, at_most_seconds=86_400.0)},
)
REST = "SELECT due_at, attempts, clock_timestamp() FROM intent"


def rest_of(databases: Databases) -> tuple[datetime, int, datetime]:
    """When the only intent is due, how often it was tried, and the time."""
    with store_of(databases) as store:
        [row] = store.execute(REST).fetchall()
    return row


@pytest.mark.parametrize("ended", [Ended.LATER, Ended.NOT_SENT, Ended.FAILED, Ended.IN_DOUBT])
def test_who_is_patient_tries_for_hours_at_longer_and_longer_intervals(
    databases: Databases, ended: Ended
) -> None:
    """However often that is, and however it fails; no clock is waited for."""
    write(databases, asked(databases.settings, "bread"))
    read_by_reaction(databases)
    desk = Desk(PATIENT, attempts_max=2)
    for tried, longest in enumerate([5, 10, 20, 40, 40, 40], 1):
        # The rest began between these two looks at the clock, however far apart they are.
        _, _, before = rest_of(databases)
        try_often(databases, desk, 1, ended, target_answers=True)
        due_at, attempts, after = rest_of(databases)
        assert attempts == tried
        assert due_at - before >= timedelta(seconds=longest / 2)
        assert due_at - after <= timedelta(seconds=longest)
    assert {state for _, state, _ in intents(databases)} == {"waiting"}


def test_what_this_process_never_began_with_is_no_attempt_of_the_patient(
    databases: Databases,
) -> None:
    write(databases, asked(databases.settings, "bread"))
    read_by_reaction(databases)
    never = Attempt(ended=Ended.NOT_SENT, reason="too busy", is_ours=True)
    desk = Desk(PATIENT, attempts_max=2)
    with store_of(databases) as store:
        [taken] = desk.take(store, SHOP, 10, lease_seconds=NEVER_SECONDS)
        desk.settle(store, [Returned(taken=taken, attempt=never)])
    _, attempts, _ = rest_of(databases)
    assert attempts == 0


@pytest.mark.parametrize(("takes_refusals", "state"), [(True, "done"), (False, "parked")])
def test_patience_ends_after_its_time_and_not_before(
    databases: Databases, state: str, *, takes_refusals: bool
) -> None:
    write(databases, asked(databases.settings, "bread"))
    read_by_reaction(databases)
    told: list[str | None] = []

    def hear(_sent: Sent, answer: Answer) -> Sequence[Intent]:
        told.append(answer.refused)
        return ()

    reaction = replace(PATIENT, takes_refusals=takes_refusals, outcome=hear)
    desk = Desk(reaction, attempts_max=2)
    age = "UPDATE intent SET created_at = clock_timestamp() - make_interval(secs => %s)"
    with store_of(databases) as store:
        store.execute(age, [86_400 - 600])
    try_often(databases, desk, 3, Ended.LATER, target_answers=True)
    assert intents(databases) == [(SHOP, "waiting", "no")]
    with store_of(databases) as store:
        store.execute(age, [86_401])
    try_often(databases, desk, 1, Ended.LATER, target_answers=True)
    assert [found[1] for found in intents(databases)] == [state]
    assert told == (["given up: no"] if takes_refusals else [])


def test_the_last_attempt_is_when_patience_ends(databases: Databases) -> None:
    write(databases, asked(databases.settings, "bread"))
    read_by_reaction(databases)
    with store_of(databases) as store:
        store.execute("UPDATE intent SET created_at = clock_timestamp() - interval '86399 s'")
    try_often(databases, Desk(PATIENT, attempts_max=2), 1, Ended.LATER, target_answers=True)
    due_at, _, after = rest_of(databases)
    assert due_at - after <= timedelta(seconds=1)


def test_a_long_rest_of_everybody_is_no_reason_to_give_up_what_was_on_its_way(
    databases: Databases,
) -> None:
    """Whoever had it was stopped, and all that could be wrong with it is how long that was."""
    write(databases, asked(databases.settings, "bread"))
    read_by_reaction(databases)
    desk = Desk(PATIENT, attempts_max=2)
    with store_of(databases) as store:
        assert len(desk.take(store, SHOP, 10, lease_seconds=-1)) == 1
        store.execute("UPDATE intent SET created_at = clock_timestamp() - interval '3 days'")
        assert len(desk.take(store, SHOP, 10, lease_seconds=-1)) == 1, "it is tried once more"
        assert desk.take(store, SHOP, 10, lease_seconds=-1) == [], "it ends whoever tries it"
    reason = "2 attempts, the last: the process ended while it was being done"
    assert intents(databases) == [(SHOP, "parked", reason)]


def test_what_a_reminder_changes_is_remembered_with_what_it_causes(databases: Databases) -> None:
    counting = replace(
        JOBS,
        react=lambda _happened, _state: [
            Remind(name, datetime(2026, 1, 1, tzinfo=UTC)) for name in ("one", "two")
        ],
        evolve=lambda state, _happened: state or {"fired": []},
        remind=lambda _reminder, state: [Send(SHOP, "do", {"after": state["fired"]})],
        reminded=lambda reminder, state: {"fired": [*state["fired"], reminder.name]},
    )
    write(databases, asked(databases.settings, "bread"))
    read_by_reaction(databases, counting)
    with store_of(databases) as store:
        assert fire_due(store, counting) == 2
        assert store.execute("SELECT state FROM subject").fetchall() == [
            ({"fired": ["one", "two"]},)
        ]
        assert store.execute("SELECT data FROM intent ORDER BY number").fetchall() == [
            ({"after": []},),
            ({"after": ["one"]},),
        ]


def test_a_state_that_cannot_be_kept_parks_its_reminder(databases: Databases) -> None:
    wrong = replace(
        JOBS,
        react=lambda _happened, _state: [Remind("one", datetime(2026, 1, 1, tzinfo=UTC))],
        evolve=lambda _state, _happened: {"fine": True},
        remind=lambda _reminder, _state: [Send(SHOP, "do")],
        reminded=lambda _reminder, _state: {"not JSON": object()},
    )
    write(databases, asked(databases.settings, "bread"))
    read_by_reaction(databases, wrong)
    with store_of(databases) as store:
        fire_due(store, wrong)
        assert store.execute("SELECT reason IS NULL FROM reminder").fetchall() == [(False,)]
        assert store.execute("SELECT state FROM subject").fetchall() == [({"fine": True},)]
    assert not intents(databases)
