"""A log that was restored goes on, and so may have the one that it was taken from.

What follows from anything that both have is asked about before it is done; what is new is not.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import pytest

from codebase.engine.reactions.reaction import (
    Answer,
    Happened,
    Intent,
    Remind,
    Reminder,
    Send,
    Sent,
    State,
)
from codebase.engine.reactions.reading import projector_of
from codebase.operations import intents as operations
from codebase.operations import parked
from codebase.operations.log_copy import copy_log
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
    LOG,
    SHOP,
    JobAsked,
    Shop,
    asked,
    ending_jobs_by_message,
    job_event,
    outcomes,
    parked_streams,
    reached,
    read_by_reaction,
    told_to_act,
    working,
)
from tests.integration.restoring import restored
from tests.patience import PATIENCE_SECONDS

if TYPE_CHECKING:
    from codebase.foundation.settings import Settings
    from tests.conftest import PostgresUnderTest

REMINDED = 2
"""Times: a reminder that fires is set once more until then."""


def course(sent: Sent, answer: Answer) -> Sequence[Intent]:
    """One thing after the other, each because of what became of the one before."""
    assert answer.refused is None
    courses = sent.send.data["courses"]
    return [served(*courses)] if courses else ()


def served(what: str, *courses: str) -> Send:
    return Send(SHOP, "do", {"what": what, "courses": courses})


def menu(reminder: Reminder, state: State) -> Sequence[Intent]:
    assert state["asked"]
    left = reminder.data.get("left", REMINDED) - 1
    again = [Remind(reminder.name, reminder.due_at, {"left": left})] if left else []
    return [served(f"reminded {left}", f"after {left}"), *again]


DINNER = replace(
    JOBS,
    react=lambda happened, state: [
        replace(each, data={**each.data, "courses": ["butter", "cheese"]})
        if isinstance(each, Send)
        else each
        for each in JOBS.react(happened, state)
    ],
    remind=menu,
    outcome=course,
)
"""Jobs that have long consequences, all of them outside."""

EVENT_DOES = ("butter", "cheese")
REMINDER_DOES = ("reminded 1", "after 1", "reminded 0", "after 0")

HAVE_DUE = "UPDATE reaction.reminder SET due_at = now()"
IS_AT_REST = """
    SELECT NOT EXISTS (SELECT FROM reaction.intent WHERE ended_at IS NULL)
       AND NOT EXISTS (SELECT FROM reaction.reminder)
"""
WAITS = """
    SELECT EXISTS (
        SELECT FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'
    )
"""


@pytest.fixture
def databases(databases: Databases) -> Databases:
    return told_to_act(databases)


@pytest.fixture
def shop(shop: Shop) -> Shop:
    """Asked once more for what was done, it does it once more."""
    shop.honours_keys = False
    return shop


def go_on(databases: Databases, shop: Shop) -> None:
    """Have all done that there is to do, reminders included."""
    with databases.as_owner() as owner:
        owner.execute(HAVE_DUE)
    with working(databases.settings, shop.url, DINNER), databases.as_owner() as owner:
        eventually(lambda: reached(databases) == heads(databases))
        eventually(lambda: owner.execute(IS_AT_REST).fetchone() == (True,))


def with_consequences(databases: Databases) -> list[tuple[str, str]]:
    """An intent, a reminder, and an event that nobody has read; all that comes of them."""
    [noted] = write(databases, asked(databases.settings, "bread"))
    later = uuid4()
    reminding = JobAsked(what="dinner", seconds=3600)
    write(databases, [job_event(databases.settings, later, 1, reminding)])
    read_by_reaction(databases, DINNER)
    [unread] = write(databases, asked(databases.settings, "cake"))
    return (
        done(noted, "bread", *EVENT_DOES)
        + done(later, *REMINDER_DOES)
        + done(unread, "cake", *EVENT_DOES)
    )


def done(job: UUID, *whats: str) -> list[tuple[str, str]]:
    return [(str(job), what) for what in whats]


def adopt(databases: Databases, *, skip_open: bool = False) -> None:
    operations.adopt(databases.settings, [DINNER], skip_open=skip_open)


def test_what_was_done_where_the_log_came_from_is_not_done_again_however_far_it_follows(
    databases: Databases, shop: Shop
) -> None:
    expected = with_consequences(databases)
    with restored(databases) as copy:
        go_on(databases, shop)
        assert Counter(shop.done) == Counter(expected)
        adopt(copy)
        go_on(copy, shop)
    assert Counter(shop.done) == Counter(expected)
    assert set(shop.inquiries) == set(shop.keys), "each was asked about"


def test_what_was_done_nowhere_is_asked_about_and_done(databases: Databases, shop: Shop) -> None:
    expected = with_consequences(databases)
    with restored(databases) as copy:
        adopt(copy)
        go_on(copy, shop)
    assert Counter(shop.done) == Counter(expected)
    assert shop.inquiries == Counter(shop.keys.keys())


def test_what_is_adopted_is_asked_about_until_it_is_done(databases: Databases, shop: Shop) -> None:
    """Where the log came from somebody may do it between any two attempts."""
    [job] = write(databases, asked(databases.settings, "bread"))
    read_by_reaction(databases, DINNER)

    def done_elsewhere(body: Mapping[str, object], nth: int) -> str:
        if body["what"] != "bread" or nth > 1:
            return "do"
        [key] = shop.calls
        shop.keys[key] = {"became": "bread done"}
        shop.done.append((str(job), "bread"))
        return "busy"

    shop.manner = done_elsewhere
    with restored(databases) as copy:
        adopt(copy)
        go_on(copy, shop)
    assert shop.done == done(job, "bread", *EVENT_DOES)


def test_who_adopts_waits_for_whoever_has_begun_to_read(databases: Databases, shop: Shop) -> None:
    """What he causes without knowing of the adoption is marked with what is open."""
    [job] = write(databases, asked(databases.settings, "bread"))
    with restored(databases) as copy:
        go_on(databases, shop)
        begun, adopted = threading.Event(), threading.Event()

        def react(happened: Happened, state: State) -> Sequence[Intent]:
            begun.set()
            with copy.as_owner() as owner:
                eventually(lambda: owner.execute(WAITS).fetchone() == (True,))
            return DINNER.react(happened, state)

        def adopt_meanwhile() -> None:
            adopt(copy)
            adopted.set()

        told_to_act(copy)
        adopting = threading.Thread(target=adopt_meanwhile)
        with projecting(copy.settings, projector_of(replace(DINNER, react=react))):
            assert begun.wait(PATIENCE_SECONDS)
            adopting.start()
            assert adopted.wait(PATIENCE_SECONDS)
            eventually(lambda: reached(copy) == heads(copy))
        adopting.join()
        go_on(copy, shop)
    assert shop.done == done(job, "bread", *EVENT_DOES)


def test_what_comes_after_the_adoption_is_asked_about_by_nobody(
    databases: Databases, shop: Shop
) -> None:
    with_consequences(databases)
    with restored(databases) as copy:
        adopt(copy)
        go_on(copy, shop)
        asked_about = shop.inquiries.total()
        [new] = write(copy, asked(copy.settings, "pie"))
        later = uuid4()
        reminding = JobAsked(what="dinner", seconds=3600)
        write(copy, [job_event(copy.settings, later, 1, reminding)])
        read_by_reaction(copy, DINNER)
        go_on(copy, shop)
    caused = done(new, "pie", *EVENT_DOES) + done(later, *REMINDER_DOES)
    assert Counter(shop.done) >= Counter(caused)
    assert shop.inquiries.total() == asked_about


def test_a_reminder_that_is_set_again_by_what_is_new_is_new(
    databases: Databases, shop: Shop
) -> None:
    reminding = JobAsked(what="dinner", seconds=3600)
    later = uuid4()
    write(databases, [job_event(databases.settings, later, 1, reminding)])
    read_by_reaction(databases, DINNER)
    with restored(databases) as copy:
        adopt(copy)
        write(copy, [job_event(copy.settings, later, 2, reminding)])
        read_by_reaction(copy, DINNER)
        go_on(copy, shop)
    assert Counter(shop.done) == Counter(done(later, *REMINDER_DOES))
    assert not shop.inquiries


def test_what_is_new_at_the_first_adoption_is_old_at_the_second(
    databases: Databases, shop: Shop
) -> None:
    with restored(databases) as copy:
        adopt(copy)
        expected = with_consequences(copy)
        with restored(copy) as second:
            go_on(copy, shop)
            assert not shop.inquiries
            adopt(second)
            go_on(second, shop)
    assert Counter(shop.done) == Counter(expected)


def test_what_was_parked_when_the_log_was_adopted_is_asked_about_when_it_is_retried(
    databases: Databases, shop: Shop
) -> None:
    def raise_(*_: object) -> tuple[()]:
        raise KeyError("a bug")

    [job] = write(databases, asked(databases.settings, "bread"))
    with projecting(databases.settings, projector_of(replace(DINNER, react=raise_))):
        eventually(lambda: parked_streams(databases) == {job})
        eventually(lambda: reached(databases) == heads(databases))
    with restored(databases) as copy:
        for each in (databases, copy):
            if each is copy:
                adopt(copy)
            assert parked.retry(each.settings, projector_of(DINNER), job) == 1
            go_on(each, shop)
    assert shop.done == done(job, "bread", *EVENT_DOES)


def test_what_follows_from_leaving_something_out_later_is_asked_about(
    databases: Databases, shop: Shop
) -> None:
    """The original may have had it left out as well, or done; what follows has the same key."""
    follows = replace(
        DINNER,
        takes_refusals=True,
        outcome=lambda _sent, answer: [served("nothing")] if answer.refused else (),
    )
    shop.manner = lambda body, _nth: "refuse" if body["what"] == "bread" else "do"
    write(databases, asked(databases.settings, "bread"))
    with working(databases.settings, shop.url, DINNER):
        eventually(lambda: operations.list_parked(databases.settings))
    [found] = operations.list_parked(databases.settings)
    with restored(databases) as copy:
        adopt(copy)
        for each in (databases, copy):
            assert not operations.skip(each.settings, [follows], found.key)
            with working(each.settings, shop.url, follows), each.as_owner() as owner:
                eventually(lambda owner=owner: owner.execute(IS_AT_REST).fetchone() == (True,))
    assert [what for _, what in shop.done] == ["nothing"]


def test_what_stays_in_the_log_asks_about_what_was_not_read_though_the_rest_is_left_out(
    databases: Databases, shop: Shop
) -> None:
    expected = with_consequences(databases)
    with restored(databases) as copy:
        staying = replace(DINNER, stays_in_the_log=True)
        operations.adopt(copy.settings, [staying], skip_open=True)
        go_on(copy, shop)
    assert Counter(shop.done) == Counter(expected)
    assert shop.inquiries == Counter(shop.keys.keys())


def test_a_log_that_is_copied_takes_along_what_is_to_be_asked_about(
    databases: Databases,
    shop: Shop,
    postgres_server: PostgresUnderTest,
    templates: tuple[str, str],
) -> None:
    expected = with_consequences(databases)
    with restored(databases) as first:
        adopt(first)
        names = urlsplit(first.settings.required("write_model_owner_url")).path[1:]
        read_model = urlsplit(first.settings.required("read_model_owner_url")).path[1:]
        moved_to = f"{names}_m"
        postgres_server.create_database(moved_to, templates[0])
        try:
            settings = settings_for(postgres_server, moved_to, read_model)
            moved = told_to_act(Databases(postgres_server, settings))
            until_nobody_is_connected(first)
            target = settings.required("write_model_owner_url")
            copy_log(first.settings, target, [JOB], finish=True)
            go_on(databases, shop)
            go_on(moved, shop)
        finally:
            postgres_server.drop_database(moved_to)
    assert Counter(shop.done) == Counter(expected)


@pytest.mark.parametrize("by_message", [False, True], ids=["by the bus", "by message"])
def test_commands_that_were_decided_nowhere_are_decided_though_they_may_have_been(
    databases: Databases,
    shop: Shop,
    request: pytest.FixtureRequest,
    *,
    by_message: bool,
) -> None:
    [job] = write(databases, asked(databases.settings, "bread"))
    with restored(databases) as copy:
        operations.adopt(copy.settings, [JOBS], skip_open=False)
        settings: Settings = copy.settings
        if by_message:
            broker = request.getfixturevalue("with_broker").broker_url
            settings = settings.model_copy(update={"broker_url": broker})
            with relaying(settings), ending_jobs_by_message(settings):
                end_jobs(settings, copy, shop, job)
        else:
            end_jobs(settings, copy, shop, job)
        with copy.as_owner() as owner:
            adopted = owner.execute("SELECT target FROM reaction.intent WHERE is_adopted")
            assert {target for (target,) in adopted.fetchall()} == {SHOP, LOG}


def end_jobs(settings: Settings, databases: Databases, shop: Shop, job: UUID) -> None:
    with working(settings, shop.url):
        eventually(lambda: outcomes(databases) == {job: ["bread done"]})
