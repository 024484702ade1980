"""What operators do about reactions: look, retry, skip, verify, move the log."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from codebase.engine.reactions.reaction import (
    Answer,
    Happened,
    Intent,
    Send,
    Sent,
    State,
    nothing_to_remember,
)
from codebase.engine.reactions.reading import projector_of
from codebase.engine.reactions.store import REACTION_STORE
from codebase.operations import intents as operations
from codebase.operations import parked
from codebase.operations.log_copy import copy_log
from codebase.operations.log_copy.errors import CopyError
from codebase.operations.verify import verify
from codebase.registry import SYSTEM
from tests.databases import Databases, settings_for
from tests.integration.flow import (
    eventually,
    heads,
    projecting,
    relaying,
    until_nobody_is_connected,
    write,
)
from tests.integration.jobs import (
    JOB,
    JOBS,
    SHOP,
    JobAsked,
    Shop,
    asked,
    ending_jobs_by_message,
    intents,
    job_event,
    outcomes,
    parked_streams,
    reached,
    read_by_reaction,
    reminders,
    told_to_act,
    working,
)
from tests.integration.test_reactions import too_long_for_an_index
from tests.patience import PATIENCE_SECONDS

if TYPE_CHECKING:
    from codebase.foundation.settings import Settings
    from tests.conftest import PostgresUnderTest

AGGREGATES = [*SYSTEM.aggregates, JOB]


@pytest.fixture
def databases(databases: Databases) -> Databases:
    return told_to_act(databases)


def with_a_parked_intent(databases: Databases, shop: Shop) -> operations.ParkedIntent:
    shop.manner = lambda body, _nth: "refuse" if body["what"] == "second" else "do"
    write(databases, asked(databases.settings, "first", "second", "third"))
    with working(databases.settings, shop.url):
        eventually(lambda: operations.list_parked(databases.settings))
    shop.manner = lambda _body, _nth: "do"
    [found] = operations.list_parked(databases.settings)
    assert (found.target, found.action, found.reason) == (SHOP, "do", "refused: 409 not here")
    return found


def test_what_is_parked_is_retried_and_what_follows_it_comes_after_it(
    databases: Databases, shop: Shop
) -> None:
    found = with_a_parked_intent(databases, shop)
    assert found.waiting >= 1
    assert operations.retry(databases.settings, found.key) == 1
    with working(databases.settings, shop.url):
        eventually(lambda: len(shop.done) == 3)
    assert [what for _, what in shop.done] == ["first", "second", "third"]
    with pytest.raises(operations.NotParkedError):
        operations.retry(databases.settings, found.key)


def test_who_retries_all_goes_on_past_what_somebody_else_was_faster_with(
    databases: Databases, shop: Shop
) -> None:
    shop.manner = lambda _body, _nth: "refuse"
    for _ in range(2):
        write(databases, asked(databases.settings, "bread"))
    with working(databases.settings, shop.url):
        eventually(lambda: len(operations.list_parked(databases.settings)) == 2)
    first, second = operations.list_parked(databases.settings)
    waits = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = %s"
    with ThreadPoolExecutor(1) as pool, databases.as_owner() as owner, databases.as_owner() as look:
        with owner.transaction():
            key = {"id": first.subject}
            owner.execute("SELECT FROM reaction.subject WHERE id = %(id)s FOR UPDATE", key)
            retrying = pool.submit(operations.retry, databases.settings, None)
            eventually(lambda: look.execute(waits, [look.info.dbname]).fetchall())
            operations.retry(databases.settings, second.key)
        assert retrying.result(PATIENCE_SECONDS) == 1
    assert [state for _, state, _ in intents(databases)] == ["waiting", "waiting"]


def test_what_is_parked_is_done_without_and_what_follows_it_has_its_turn(
    databases: Databases, shop: Shop
) -> None:
    found = with_a_parked_intent(databases, shop)
    operations.skip(databases.settings, [JOBS], found.key)
    with working(databases.settings, shop.url):
        eventually(lambda: len(shop.done) == 2)
        eventually(lambda: {state for _, state, _ in intents(databases)} == {"done", "skipped"})
    assert [what for _, what in shop.done] == ["first", "third"]
    with pytest.raises(operations.NotParkedError):
        operations.skip(databases.settings, [JOBS], found.key)


TOLD = replace(JOBS, takes_refusals=True)
"""The same, and told of what is refused or left out."""


def test_who_takes_refusals_is_told_of_what_is_done_without(
    databases: Databases, shop: Shop
) -> None:
    shop.manner = lambda _body, _nth: "refuse"
    [job] = write(databases, asked(databases.settings, "bread"))
    with working(databases.settings, shop.url):
        eventually(lambda: operations.list_parked(databases.settings))
    [found] = operations.list_parked(databases.settings)
    operations.skip(databases.settings, [TOLD], found.key)
    with working(databases.settings, shop.url):
        eventually(lambda: outcomes(databases) == {job: [operations.LEFT_OUT]})
    differences = verify(databases.settings, AGGREGATES, [], reactions=[JOBS], say=lambda _: None)
    assert not [sentence for sentence in differences if "reaction jobs" in sentence]


def test_who_takes_refusals_is_told_of_what_adopting_leaves_out(
    databases: Databases, shop: Shop
) -> None:
    [job] = write(databases, asked(databases.settings, "bread"))
    read_by_reaction(databases)
    operations.adopt(databases.settings, [TOLD], skip_open=True)
    with working(databases.settings, shop.url):
        eventually(lambda: outcomes(databases) == {job: [operations.LEFT_OUT]})
    assert not shop.done


def raising(*_: object) -> tuple[()]:
    raise KeyError("a bug")


def beyond_the_store(*_: object) -> list[Intent]:
    return [Send(too_long_for_an_index(), "do")]


def test_what_a_reaction_cannot_be_told_of_is_left_out_all_the_same(
    databases: Databases, shop: Shop
) -> None:
    """What is parked because `outcome` raises finds it no better when it is left out."""
    broken = replace(TOLD, outcome=raising)
    [job, *_] = write(databases, asked(databases.settings, "bread", "cake"))
    with working(databases.settings, shop.url, broken):
        eventually(lambda: operations.list_parked(databases.settings))
    [found] = operations.list_parked(databases.settings)
    [untold] = operations.skip(databases.settings, [broken], found.key)
    assert str(found.key) in untold
    with working(databases.settings, shop.url):
        eventually(lambda: outcomes(databases) == {job: ["cake done"]})


@pytest.mark.parametrize("fail", [raising, beyond_the_store])
def test_adopting_tells_of_what_it_can(
    databases: Databases, shop: Shop, fail: Callable[..., Sequence[Intent]]
) -> None:
    bad, good = (write(databases, asked(databases.settings, "bread"))[0] for _ in range(2))
    read_by_reaction(databases)

    def outcome(sent: Sent, answer: Answer) -> Sequence[Intent]:
        return fail() if sent.subject == bad else JOBS.outcome(sent, answer)

    broken = replace(TOLD, outcome=outcome)
    adopted = operations.adopt(databases.settings, [broken], skip_open=True)
    assert (adopted.skipped, len(adopted.untold)) == (2, 1)
    with working(databases.settings, shop.url):
        eventually(lambda: outcomes(databases) == {good: [operations.LEFT_OUT]})
    assert not shop.done


def test_what_stays_in_the_log_is_kept_when_the_rest_is_left_out(
    databases: Databases, shop: Shop
) -> None:
    """Nobody does it anywhere else: what would end by it would never end."""
    later = uuid4()
    made = job_event(databases.settings, later, 1, JobAsked(what="bread", seconds=3600))
    write(databases, [*asked(databases.settings, "bread"), made])
    read_by_reaction(databases)
    staying = replace(JOBS, stays_in_the_log=True)
    adopted = operations.adopt(databases.settings, [staying], skip_open=True)
    assert (adopted.skipped, adopted.reminders) == (0, 0)
    assert reminders(databases) == {later}
    with working(databases.settings, shop.url):
        eventually(lambda: shop.done)
    assert list(shop.inquiries.values()) == [1], "who knows whether it was done before"


def test_a_stream_that_was_parked_is_repaired_and_repeated_in_order(
    databases: Databases, shop: Shop
) -> None:
    repaired = replace(
        JOBS,
        react=lambda happened, state: (
            JOBS.react(replace(happened, event=JobAsked(what="cake")), state)
            if happened.event == JobAsked(what="poison")
            else JOBS.react(happened, state)
        ),
    )
    job = uuid4()
    write(databases, asked(databases.settings, "poison", "after", job=job))
    with working(databases.settings, shop.url):
        eventually(lambda: parked_streams(databases) == {job})
        [listed] = parked.list_parked(databases.settings, REACTION_STORE)
        assert listed.stream_id == job
        assert "ValueError in react" in listed.reason
        with pytest.raises(parked.RetryFailedError):
            parked.retry(databases.settings, projector_of(JOBS), job)
        eventually(lambda: len(parked.list_parked(databases.settings, REACTION_STORE)) == 1)
    assert parked.retry(databases.settings, projector_of(repaired), job) == 2
    with working(databases.settings, shop.url, repaired):
        eventually(lambda: len(shop.done) == 2)
    assert [what for _, what in shop.done] == ["cake", "after"]


def test_a_reminder_that_could_not_fire_is_parked_and_retried(
    databases: Databases, shop: Shop
) -> None:
    def raise_(*_: object) -> tuple[()]:
        raise KeyError("a bug")

    job = uuid4()
    write(databases, [job_event(databases.settings, job, 1, JobAsked(what="bread", seconds=0))])
    with working(databases.settings, shop.url, replace(JOBS, remind=raise_)):
        eventually(lambda: operations.list_parked(databases.settings))
    [found] = operations.list_parked(databases.settings)
    assert (found.target, found.action, found.subject) == ("reminder", "give up", job)
    operations.retry(databases.settings, None)
    with working(databases.settings, shop.url):
        eventually(lambda: outcomes(databases).get(job) == ["given up"])


def test_verify_finds_what_does_not_fit_the_log(databases: Databases) -> None:
    write(databases, asked(databases.settings, "bread", "cake"))
    read_by_reaction(databases)

    def findings() -> list[str]:
        return verify(databases.settings, AGGREGATES, [], reactions=[JOBS], say=lambda _: None)

    assert findings() == []
    for change, found in (
        (b"event_id = 'another'", "where another event is"),
        (b"ordinal = ordinal + 1", "not named after what causes it"),
        (b"is_next = NOT is_next", "its turn out of order"),
    ):
        with databases.as_owner() as owner, owner.transaction():
            owner.execute("CREATE TABLE kept AS TABLE reaction.intent")
            owner.execute(b"UPDATE reaction.intent SET " + change)
        assert any(found in sentence for sentence in findings()), change
        with databases.as_owner() as owner, owner.transaction():
            owner.execute("DELETE FROM reaction.intent")
            owner.execute("INSERT INTO reaction.intent TABLE kept")
            owner.execute("DROP TABLE kept")
    with databases.as_owner() as owner:
        owner.execute("UPDATE reaction.projection_checkpoint SET position = position + 9")
    assert any("beyond the log" in sentence for sentence in findings())


def test_verify_compares_what_was_done_with_what_the_log_says(
    databases: Databases, shop: Shop
) -> None:
    [job] = write(databases, asked(databases.settings, "bread"))
    with working(databases.settings, shop.url):
        eventually(lambda: {state for _, state, _ in intents(databases)} == {"done"})
        eventually(lambda: job in outcomes(databases))

    def findings() -> list[str]:
        return verify(databases.settings, AGGREGATES, [], reactions=[JOBS], say=lambda _: None)

    assert findings() == []
    with databases.as_owner() as owner:
        owner.execute(
            "UPDATE reaction.intent SET state = 'waiting', ended_at = NULL, is_next = true,"
            " in_doubt = true WHERE target = 'log'"
        )
        assert findings() == [], "it is in doubt, and will be found out"
        owner.execute("UPDATE reaction.intent SET in_doubt = false WHERE target = 'log'")
        assert any("says was never done" in each for each in findings())
        owner.execute("DELETE FROM reaction.intent WHERE target = 'log'")
        assert any("which is unknown" in each for each in findings())
        owner.execute("ALTER TABLE event DISABLE TRIGGER event_is_append_only")
        owner.execute("UPDATE event SET recorded_at = recorded_at - interval '31 days'")
    assert not any("which is unknown" in each for each in findings()), "it is forgotten"


def test_verify_finds_events_that_have_caused_nothing(databases: Databases) -> None:
    """Of a reaction that remembers nothing, whatever else became of what it has noted."""

    def forgetful(happened: Happened, _state: State) -> Sequence[Intent]:
        match happened.event:
            case JobAsked(what="poison"):
                raise ValueError("a bug")
            case JobAsked(what=what):
                return [Send(SHOP, "do", {"what": what})] * 2
            case _:
                return ()

    reaction = replace(JOBS, evolve=nothing_to_remember, react=forgetful)
    write(databases, asked(databases.settings, "bread", "poison", "cake"))
    with projecting(databases.settings, projector_of(reaction)):
        eventually(lambda: reached(databases) == heads(databases))
    write(databases, asked(databases.settings, "not read yet"))

    def findings() -> list[str]:
        return verify(databases.settings, AGGREGATES, [], reactions=[reaction], say=lambda _: None)

    assert findings() == [], "what is parked is told of elsewhere"
    with databases.as_owner() as owner:
        owner.execute("DELETE FROM reaction.intent WHERE ordinal = 0")
        owner.execute("UPDATE reaction.intent SET is_next = true")
        assert findings() == [], "a release before may have caused less"
        owner.execute("DELETE FROM reaction.intent WHERE data ->> 'what' = 'bread'")
        [missing] = findings()
        assert "causes something in reaction jobs, which has none" in missing
        owner.execute("UPDATE reaction.projection_checkpoint SET remembered_until = position")
        assert findings() == [], "it is only remembered"
        owner.execute("UPDATE reaction.projection_checkpoint SET remembered_until = 0")
        owner.execute("ALTER TABLE event DISABLE TRIGGER event_is_append_only")
        owner.execute("UPDATE event SET recorded_at = recorded_at - interval '31 days'")
    assert findings() == [], "it is forgotten"


def test_verify_compares_what_came_by_message_with_what_was_tried(
    databases: Databases, shop: Shop, with_broker: Settings
) -> None:
    [job] = write(databases, asked(databases.settings, "bread"))
    with (
        relaying(with_broker),
        ending_jobs_by_message(with_broker),
        working(with_broker, shop.url),
    ):
        eventually(lambda: {state for _, state, _ in intents(databases)} == {"done"})
        eventually(lambda: job in outcomes(databases))

    def findings() -> list[str]:
        return verify(databases.settings, AGGREGATES, [], reactions=[JOBS], say=lambda _: None)

    assert findings() == []
    undone = b"state = 'waiting', ended_at = NULL, is_next = true"
    with databases.as_owner() as owner:
        for noted, expected in (
            (b"in_doubt = true", 0),
            (b"in_doubt = false, reason = 'the broker is away'", 0),
            (b"reason = NULL", 1),
        ):
            owner.execute(
                b"UPDATE reaction.intent SET " + undone + b", " + noted + b" WHERE target = 'log'"
            )
            found = [each for each in findings() if "says was never done" in each]
            assert len(found) == expected, noted
        owner.execute("DELETE FROM reaction.intent WHERE target = 'log'")
    assert not findings(), "anybody may have sent it"


def test_verify_looks_at_what_a_reaction_has_left_that_no_service_has_any_more(
    databases: Databases,
) -> None:
    write(databases, asked(databases.settings, "bread"))
    read_by_reaction(databases)

    def findings() -> list[str]:
        return verify(databases.settings, AGGREGATES, [], say=lambda _: None)

    assert findings() == [
        "reaction jobs: 1 intents and 0 reminders wait, and no service has this reaction"
    ]
    with databases.as_owner() as owner:
        owner.execute(
            "UPDATE reaction.intent SET state = 'skipped', is_next = false, ended_at = now()"
        )
        assert findings() == []
        owner.execute("UPDATE reaction.intent SET ordinal = ordinal + 1")
    assert any("not named after what causes it" in each for each in findings())


def test_a_log_that_moves_takes_along_what_is_to_be_done_and_does_not_act_again(
    databases: Databases, shop: Shop, postgres_server: PostgresUnderTest, templates: tuple[str, str]
) -> None:
    settings = databases.settings
    done = write(databases, asked(settings, "bread"))[0]
    with working(settings, shop.url):
        eventually(lambda: outcomes(databases) == {done: ["bread done"]})
    later = uuid4()
    waiting = write(databases, asked(settings, "cake"))[0]
    write(databases, [job_event(settings, later, 1, JobAsked(what="bread", seconds=3600))])
    read_by_reaction(databases)
    names = [
        urlsplit(settings.required(f"{each}_owner_url")).path[1:]
        for each in ("write_model", "read_model")
    ]
    postgres_server.create_database(f"{names[0]}_copy", templates[0])
    copied = Databases(postgres_server, settings_for(postgres_server, f"{names[0]}_copy", names[1]))
    try:
        with copied.as_owner() as owner:
            owner.execute("SELECT reaction.adopt()")  # it is a clone of a template
        target = copied.settings.required("write_model_owner_url")
        with working(settings, shop.url):
            eventually(lambda: waiting in outcomes(databases))
            with pytest.raises(CopyError, match="reaction_worker"):
                copy_log(settings, target, AGGREGATES, finish=True)
        more = write(databases, asked(settings, "pie"))[0]
        read_by_reaction(databases)
        until_nobody_is_connected(databases)
        copy_log(settings, target, AGGREGATES, finish=True)
        before = len(shop.done)
        with working(settings, shop.url) as old, working(copied.settings, shop.url):
            eventually(lambda: outcomes(copied).get(more) == ["pie done"])
            eventually(lambda: "the log is closed" in (old.problem() or ""))
        assert len(shop.done) == before + 1
        assert more not in outcomes(databases)
        assert reminders(copied) == {later}
        assert verify(copied.settings, AGGREGATES, [], reactions=[JOBS]) == []
    finally:
        postgres_server.drop_database(f"{names[0]}_copy")


def test_what_is_adopted_is_asked_about_before_it_is_done(databases: Databases, shop: Shop) -> None:
    write(databases, asked(databases.settings, "bread"))
    read_by_reaction(databases)
    operations.adopt(databases.settings, [JOBS], skip_open=False)
    with working(databases.settings, shop.url):
        eventually(lambda: shop.done)
    assert list(shop.inquiries.values()) == [1]


def test_an_event_without_an_id_is_known_by_its_place(databases: Databases) -> None:
    [event] = asked(databases.settings, "bread")
    event.meta = json.dumps({**json.loads(event.meta), "event_id": None})
    write(databases, [event])
    read_by_reaction(databases)
    with databases.as_owner() as owner:
        [noted] = owner.execute(
            "SELECT event_id = partition || ':' || position FROM reaction.intent"
        ).fetchall()
    assert noted == (True,)
    found = verify(databases.settings, AGGREGATES, [], reactions=[JOBS], say=lambda _: None)
    assert not [sentence for sentence in found if "reaction jobs" in sentence]


def test_what_was_not_read_when_the_log_was_adopted_is_remembered_and_causes_nothing(
    databases: Databases, shop: Shop
) -> None:
    [job] = write(databases, asked(databases.settings, "bread"))
    operations.adopt(databases.settings, [JOBS], skip_open=True)
    write(databases, asked(databases.settings, "cake", job=job, after=1))
    with working(databases.settings, shop.url):
        eventually(lambda: outcomes(databases) == {job: ["cake done"]})
    assert shop.done == [(str(job), "cake")]
    with databases.as_owner() as owner:
        caused = owner.execute("SELECT data ->> 'nth' FROM reaction.intent ORDER BY number")
        assert caused.fetchone() == ("2",)


def test_what_was_parked_when_the_log_was_adopted_is_remembered_and_causes_nothing(
    databases: Databases,
) -> None:
    [job] = write(databases, asked(databases.settings, "poison", "after"))[:1]
    with projecting(databases.settings, projector_of(JOBS)):
        eventually(lambda: parked_streams(databases) == {job})
        eventually(lambda: reached(databases) == heads(databases))
    operations.adopt(databases.settings, [JOBS], skip_open=True)
    write(databases, asked(databases.settings, "cake", job=job, after=2))
    with projecting(databases.settings, projector_of(JOBS)):
        eventually(lambda: reached(databases) == heads(databases))
    assert parked.retry(databases.settings, projector_of(JOBS), job) == 3
    with databases.as_owner() as owner:
        caused = owner.execute("SELECT data FROM reaction.intent").fetchall()
    assert caused == [({"what": "cake", "nth": 3},)]


def test_adopting_may_leave_out_what_is_open(databases: Databases, shop: Shop) -> None:
    write(databases, asked(databases.settings, "bread"))
    later = uuid4()
    write(
        databases, [job_event(databases.settings, later, 1, JobAsked(what="bread", seconds=3600))]
    )
    read_by_reaction(databases)
    with databases.as_owner() as owner:
        owner.execute("DELETE FROM reaction.place")
    adopted = operations.adopt(databases.settings, [JOBS], skip_open=True)
    assert (adopted.skipped, adopted.reminders) == (1, 1)
    with working(databases.settings, shop.url) as team:
        eventually(lambda: team.problem() is None)
        [new] = write(databases, asked(databases.settings, "cake"))
        eventually(lambda: outcomes(databases) == {new: ["cake done"]})
    assert shop.done == [(str(new), "cake")]
