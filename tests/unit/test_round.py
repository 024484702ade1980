"""Group commit, decided in memory: neighbours never suffer from each other."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from codebase.engine.commands.fingerprint import Content, Fingerprints
from codebase.engine.commands.history import Entry, History, read_on
from codebase.engine.commands.round import Again, Round
from codebase.engine.commands.submission import Given, Pending, Submission
from codebase.engine.log.appending import Appended, Refusal
from codebase.engine.log.codec import UnknownEventError
from codebase.engine.log.events import RecordedEvent
from codebase.model.actor import Actor
from codebase.model.aggregate import Aggregate, Claim
from codebase.model.refusals import Conflict, KeyReused, NotFound

ALICE = Actor("alice")
FINGERPRINTS = Fingerprints({"k1": bytes(32)})
NOW = datetime(2026, 11, 21, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Added:
    """The counter grew."""

    by: int


@dataclass(frozen=True, kw_only=True)
class Add:
    """Let the counter grow; a negative step is refused, a thousand is a bug, 0 is nothing."""

    by: int


def decide(command: Add, state: int | None) -> list[Added]:
    if command.by < 0:
        raise Conflict("only upwards")
    if command.by == 1000:
        raise ZeroDivisionError("a bug in a rule")
    if command.by == 7 and state is None:
        raise NotFound("seven needs something to add to")
    if command.by == 2:
        return [Added(by=1), Added(by=1)]
    return [Added(by=command.by)] if command.by else []


def evolve(state: int | None, event: Added) -> int:
    if event.by == 13:
        raise ZeroDivisionError("a bug in a fold")
    return (state or 0) + event.by


COUNTER: Aggregate[Add, Added, int] = Aggregate(
    category="counter",
    events=(Added,),
    decide=decide,
    evolve=evolve,
    guards=lambda event: [Claim("step", str(event.by))],
    topic=lambda _: "counter.added",
)


def submission(stream_id: UUID, by: int, key: str | None = None, content: str = "") -> Submission:
    return Submission(
        aggregate=COUNTER,
        stream_id=stream_id,
        command=Add(by=by),
        idempotence_key=key,
        content=Content((content or str(by)).encode(), unkeyed=lambda: str(by)),
        actor=ALICE,
        command_id=str(uuid4()),
        creates=True,
    )


def pending(*submissions: Submission) -> list[Pending]:
    loop = asyncio.get_running_loop()
    return [Pending(one, loop.create_future()) for one in submissions]


def write(this_round: Round, *, after: int = 0, refused: dict[int, Refusal] | None = None) -> Again:
    """Do as append() does: everything that is not refused gets the next positions."""
    events = [event for event in this_round.new_events if event.unit not in (refused or {})]
    places = [
        (event, after + nth, NOW + timedelta(microseconds=nth))
        for nth, event in enumerate(events, start=1)
    ]
    return this_round.settle(Appended(recorded=places, refused=refused or {}))


def recorded(*steps: int, key: str | None = None) -> History:
    history = History()
    for nth, step in enumerate(steps, start=1):
        history.add(
            Entry(
                event=Added(by=step),
                client=ALICE.name,
                idempotence_key=key if nth == 1 else None,
                creates=True,
                fingerprint=str(step),
                command_id=f"command {nth}",
                position=nth,
                recorded_at=NOW,
            )
        )
    return history


def run(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(story)


def test_streams_of_one_round_are_units_of_their_own() -> None:
    async def story() -> None:
        work = pending(submission(uuid4(), 3, "a"), submission(uuid4(), 4, "b"))
        this_round = Round(work, {}, 1, FINGERPRINTS)
        assert [event.unit for event in this_round.new_events] == [0, 1]
        assert write(this_round) == Again()
        assert [one.outcome.result().state for one in work] == [3, 4]
        assert [one.outcome.result().positions for one in work] == [{0: 1}, {0: 2}]

    run(story())


def test_a_hundred_repeats_in_one_round_write_once_and_answer_alike() -> None:
    async def story() -> None:
        stream = uuid4()
        work = pending(*(submission(stream, 3, "key") for _ in range(100)))
        this_round = Round(work, {}, 1, FINGERPRINTS)
        assert len(this_round.new_events) == 1
        assert write(this_round) == Again()
        answers = [one.outcome.result() for one in work]
        assert {(answer.state, answer.version, answer.positions[0]) for answer in answers} == {
            (3, 1, 1)
        }
        assert [answer.replayed for answer in answers] == [False] + [True] * 99

    run(story())


@pytest.mark.parametrize(
    ("bad", "error"),
    [(-1, Conflict), (1000, ZeroDivisionError)],
    ids=["refused by a rule", "a bug in a rule"],
)
def test_one_bad_command_fails_alone(bad: int, error: type[Exception]) -> None:
    async def story() -> None:
        good, evil, other = uuid4(), uuid4(), uuid4()
        work = pending(submission(good, 3), submission(evil, bad), submission(other, 4))
        this_round = Round(work, {evil: History()}, 1, FINGERPRINTS)
        assert write(this_round) == Again()
        assert work[0].outcome.result().state == 3
        assert work[2].outcome.result().state == 4
        with pytest.raises(error):
            work[1].outcome.result()

    run(story())


def test_a_fold_that_fails_after_the_commit_fails_alone() -> None:
    async def story() -> None:
        work = pending(*(submission(uuid4(), by) for by in (3, 13, 4)))
        assert write(Round(work, {}, 1, FINGERPRINTS)) == Again()
        assert work[0].outcome.result().state == 3
        assert work[2].outcome.result().state == 4
        with pytest.raises(ZeroDivisionError):
            work[1].outcome.result()

    run(story())


def test_a_stream_that_cannot_be_read_fails_alone() -> None:
    async def story() -> None:
        good, evil = uuid4(), uuid4()
        work = pending(submission(good, 3), submission(evil, 3))
        histories = {evil: History(unreadable=UnknownEventError("what is this?"))}
        assert write(Round(work, histories, 1, FINGERPRINTS)) == Again()
        assert work[0].outcome.result().state == 3
        with pytest.raises(UnknownEventError):
            work[1].outcome.result()

    run(story())


def something_else(stream_id: UUID) -> History:
    """What is known of a stream that none of the commands at hand was meant for."""
    opened = RecordedEvent(
        partition=0,
        position=1,
        stream_id=stream_id,
        category="account",
        version=1,
        type="AccountOpened",
        idempotence_key=None,
        data={"name": "Blue"},
        meta={},
        recorded_at=NOW,
    )
    history = History()
    read_on(history, [opened], {COUNTER.category: COUNTER})
    return history


def test_to_the_rules_there_is_nothing_in_a_stream_of_another_kind() -> None:
    async def story() -> None:
        stream = uuid4()
        refused, idle = submission(stream, 7), submission(stream, 0, "key")
        work = pending(replace(refused, creates=False), replace(idle, creates=False))
        this_round = Round(work, {stream: something_else(stream)}, 1, FINGERPRINTS)
        assert write(this_round) == Again()
        with pytest.raises(NotFound):
            work[0].outcome.result()
        outcome = work[1].outcome.result()
        assert (outcome.state, outcome.version, outcome.positions) == (None, 0, {})
        assert not outcome.changed
        [(_, note)] = this_round.new_notes
        assert (note.client, note.idempotence_key, note.version) == ("alice", "key", 0)

    run(story())


def test_nothing_is_ever_written_to_a_stream_of_another_kind() -> None:
    async def story() -> None:
        stream = uuid4()
        work = pending(submission(stream, 3))
        this_round = Round(work, {stream: something_else(stream)}, 1, FINGERPRINTS)
        assert this_round.new_events == []
        assert write(this_round) == Again()
        with pytest.raises(AssertionError, match="one aggregate"):
            work[0].outcome.result()

    run(story())


def test_a_stream_of_another_kind_is_given_as_nothing() -> None:
    async def story() -> None:
        stream, other = uuid4(), uuid4()
        states: list[int | None] = []

        def command(state: int | None) -> Add:
            states.append(state)
            return Add(by=3)

        given = replace(submission(stream, 3), command=command, given=Given(COUNTER, other))
        work = pending(given)
        write(Round(work, {other: something_else(other)}, 1, FINGERPRINTS))
        assert states == [None]
        assert work[0].outcome.result().state == 3

    run(story())


def test_a_refusal_on_a_stream_that_was_not_read_is_decided_again_first() -> None:
    async def story() -> None:
        stream = uuid4()
        work = pending(submission(stream, 7, "key"))
        assert write(Round(work, {}, 1, FINGERPRINTS)).work == work
        again = Round(work, {stream: recorded(7, key="key")}, 1, FINGERPRINTS)
        assert write(again) == Again()
        assert work[0].outcome.result().replayed

    run(story())


def test_a_key_that_stands_for_something_else_is_refused() -> None:
    async def story() -> None:
        stream = uuid4()
        work = pending(submission(stream, 3, "key"), submission(stream, 4, "key"))
        this_round = Round(work, {}, 1, FINGERPRINTS)
        assert len(this_round.new_events) == 1
        assert write(this_round) == Again()
        assert work[0].outcome.result().state == 3
        with pytest.raises(KeyReused):
            work[1].outcome.result()

    run(story())


def test_a_repeat_is_answered_with_the_state_of_its_own_version() -> None:
    async def story() -> None:
        stream = uuid4()
        history = recorded(3, 5, 8, key="first")
        work = pending(submission(stream, 3, "first"))
        assert write(Round(work, {stream: history}, 1, FINGERPRINTS)) == Again()
        outcome = work[0].outcome.result()
        assert (outcome.state, outcome.version, outcome.positions) == (3, 1, {0: 1})

    run(story())


def test_a_command_of_several_events_is_answered_with_its_last_version() -> None:
    async def story() -> None:
        stream = uuid4()
        work = pending(submission(stream, 2, "two"), submission(stream, 2, "two"))
        this_round = Round(work, {}, 1, FINGERPRINTS)
        assert [event.idempotence_key for event in this_round.new_events] == ["two", None]
        assert write(this_round) == Again()
        assert [one.outcome.result().version for one in work] == [2, 2]
        assert [one.outcome.result().positions for one in work] == [{0: 2}, {0: 2}]

    run(story())


def test_whoever_was_overtaken_decides_again_on_fresh_state() -> None:
    async def story() -> None:
        stream, other = uuid4(), uuid4()
        work = pending(submission(stream, 3), submission(other, 4))
        this_round = Round(work, {}, 1, FINGERPRINTS)
        again = write(this_round, refused={0: Refusal(why="stale", guard=None, detail=None)})
        assert again == Again(work=[work[0]])
        assert work[1].outcome.result().positions == {0: 1}
        assert write(Round(again.work, {stream: recorded(5)}, 1, FINGERPRINTS), after=9) == Again()
        assert work[0].outcome.result().state == 8

    run(story())


@pytest.mark.parametrize("why", ["claim", "budget"])
def test_a_guard_refuses_the_sender_and_its_repeats_but_nobody_else(why: str) -> None:
    async def story() -> None:
        stream = uuid4()
        idle = replace(submission(stream, 0), content=Content(b"idle"))
        work = pending(submission(stream, 3, "key"), submission(stream, 3, "key"), idle)
        this_round = Round(work, {}, 1, FINGERPRINTS)
        again = write(this_round, refused={0: Refusal(why=why, guard="step", detail="3")})
        assert again == Again(work=[work[2]])
        for one in work[:2]:
            with pytest.raises(Conflict):
                one.outcome.result()

    run(story())


def test_when_several_writers_share_a_refused_stream_they_go_one_by_one() -> None:
    async def story() -> None:
        stream = uuid4()
        work = pending(submission(stream, 3, "a"), submission(stream, 4, "b"))
        taken = {0: Refusal(why="claim", guard="step", detail="4")}
        again = write(Round(work, {}, 1, FINGERPRINTS), refused=taken)
        assert again == Again(work=work, one_each={stream})
        histories = {stream: History()}
        again = write(Round(again.work, histories, 1, FINGERPRINTS, one_each=again.one_each))
        assert again == Again(work=[work[1]])
        assert work[0].outcome.result().state == 3
        again = write(Round(again.work, {stream: recorded(3)}, 1, FINGERPRINTS), refused=taken)
        assert again == Again()
        with pytest.raises(Conflict):
            work[1].outcome.result()

    run(story())


def test_a_race_for_a_claim_is_run_again_and_refuses_nobody() -> None:
    async def story() -> None:
        work = pending(submission(uuid4(), 3))
        race = {0: Refusal(why="race", guard="step", detail="3")}
        assert write(Round(work, {}, 1, FINGERPRINTS), refused=race) == Again(work=work)
        assert not work[0].outcome.done()

    run(story())


def test_callers_that_stopped_waiting_are_left_alone() -> None:
    async def story() -> None:
        work = pending(submission(uuid4(), 3), submission(uuid4(), -1))
        for one in work:
            one.outcome.cancel()
        write(Round(work, {}, 1, FINGERPRINTS))
        assert all(one.outcome.cancelled() for one in work)

    run(story())


def test_who_has_to_wait_for_room_rests_and_is_not_decided_again_at_once() -> None:
    """While a kind of claim is being vacated, trying again at once would be in vain."""

    async def story() -> None:
        work = pending(submission(uuid4(), 3, "a"), submission(uuid4(), 4, "b"))
        this_round = Round(work, {}, 1, FINGERPRINTS)
        held = Refusal(why="held", guard="step", detail="3")
        assert write(this_round, refused={0: held}) == Again(resting=[work[0]])
        assert work[1].outcome.result().state == 4

    run(story())


def test_a_command_that_had_nothing_to_do_goes_again_when_that_has_changed() -> None:
    async def story() -> None:
        stream = uuid4()
        [idle] = pending(replace(submission(stream, 0, "key"), creates=False))
        this_round = Round([idle], {stream: recorded(3)}, 1, FINGERPRINTS)
        [(unit, note)] = this_round.new_notes
        assert (note.version, note.idempotence_key) == (1, "key")
        stale = Refusal(why="stale", guard=None, detail=None)
        assert write(this_round, refused={unit: stale}) == Again(work=[idle])
        assert not idle.outcome.done()

    run(story())


def test_nobody_decides_on_a_stream_that_has_been_heard_of_later_versions() -> None:
    """A key is looked for once its stream was read: its command may have been written meanwhile."""

    async def story() -> None:
        stream, other = uuid4(), uuid4()
        work = pending(submission(stream, 3, "key"), submission(other, 4))
        history = recorded(3)
        history.hear_of(1)
        assert not history.behind
        history.hear_of(2)
        this_round = Round(work, {stream: history}, 1, FINGERPRINTS)
        assert [event.stream_id for event in this_round.new_events] == [other]
        assert write(this_round) == Again(work=[work[0]])
        assert not work[0].outcome.done()
        assert work[1].outcome.result().state == 4

    run(story())


def test_who_has_nothing_to_write_does_not_wait_for_those_who_have() -> None:
    async def story() -> None:
        known, noted, new, assumed = (uuid4() for _ in range(4))
        work = pending(
            submission(known, 1, "key"),
            submission(known, -1),
            submission(noted, 0, "other key"),
            submission(new, 3),
            submission(assumed, -1),
        )
        histories = {known: recorded(1, key="key"), noted: recorded(1)}
        this_round = Round(work, histories, 1, FINGERPRINTS)
        this_round.answer_settled()
        assert [each.outcome.done() for each in work] == [True, True, False, False, False]
        repeated = await work[0].outcome
        assert (repeated.replayed, repeated.version) == (True, 1)
        with pytest.raises(Conflict):
            await work[1].outcome
        assert this_round.everyone() == work[2:]
        assert write(this_round).work == [work[4]], "what it was decided on has to be looked at"
        assert [each.outcome.done() for each in work[2:]] == [True, True, False]

    run(story())
