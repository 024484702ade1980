"""Reminders by a clock that the test moves, and many at once. Nobody sleeps: Postgres is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
import pytest

from codebase.engine.reactions.reaction import Intent, Reminder, State, nothing_to_remember
from codebase.engine.reactions.reminders import BATCH, fire_due
from codebase.engine.reactions.store import REACTION_STORE
from tests.integration.flow import write
from tests.integration.jobs import (
    JOBS,
    LOG,
    JobAsked,
    JobEnded,
    intents,
    job_event,
    read_by_reaction,
    reminders,
    told_to_act,
)
from tests.patience import NEVER_SECONDS

if TYPE_CHECKING:
    from tests.databases import Databases

# A function of Postgres is found before one of its own name in another schema, unless the path
# says where Postgres' own come.
MAKE_CLOCK = """
    CREATE SCHEMA clock;
    CREATE TABLE clock.moved (at timestamptz NOT NULL);
    INSERT INTO clock.moved VALUES ('-infinity');
    CREATE FUNCTION clock.statement_timestamp() RETURNS timestamptz
        LANGUAGE sql STABLE AS 'SELECT at FROM clock.moved';
    GRANT USAGE ON SCHEMA clock TO reaction_worker;
    GRANT SELECT ON clock.moved TO reaction_worker;
"""
BY_THIS_CLOCK = "-c search_path=clock,pg_catalog,reaction,public"

ADD_SUBJECTS = """
    INSERT INTO reaction.subject (reaction, id)
    SELECT 'jobs', gen_random_uuid() FROM generate_series(1, %s)
"""
HAVE_ALL_DUE = """
    INSERT INTO reaction.reminder (reaction, subject, name, key, due_at, data)
    SELECT 'jobs', id, 'give up', gen_random_uuid(), now(), '{}' FROM reaction.subject
"""
MANY = 100_000

SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)


class Store(psycopg.Connection[Any]):
    """A connection in whose work something comes between: after looking, before firing."""

    meanwhile: Callable[[], None] = staticmethod(lambda: None)

    def transaction(
        self,
        savepoint_name: str | None = None,
        force_rollback: bool = False,  # noqa: FBT001, FBT002 - psycopg's
    ) -> AbstractContextManager[psycopg.Transaction]:
        self.meanwhile()
        return super().transaction(savepoint_name, force_rollback)


@dataclass
class Clock:
    """The clock of the store, as far as reminders look at it."""

    databases: Databases

    def says(self, at: datetime) -> None:
        with self.databases.as_owner() as owner:
            owner.execute("UPDATE clock.moved SET at = %s", [at])


@pytest.fixture
def databases(databases: Databases) -> Databases:
    return told_to_act(databases)


@pytest.fixture
def clock(databases: Databases) -> Clock:
    with databases.as_owner() as owner:
        owner.execute(MAKE_CLOCK)
    return Clock(databases)


@contextmanager
def store_of(databases: Databases, more: str = "") -> Iterator[Store]:
    url = databases.settings.required("write_model_reaction_url")
    options = f"{REACTION_STORE.options} {more}"
    with Store.connect(url, autocommit=True, options=options) as store:
        yield store


def due(databases: Databases) -> datetime:
    """When the one reminder that a new job has is due."""
    write(databases, [job_event(databases.settings, uuid4(), 1, JobAsked(what="x", seconds=60))])
    read_by_reaction(databases)
    with databases.as_owner() as owner:
        [(due_at,)] = owner.execute("SELECT due_at FROM reaction.reminder").fetchall()
    assert isinstance(due_at, datetime)
    return due_at


def test_a_clock_that_goes_back_fires_nothing_twice_and_nothing_too_early(
    databases: Databases, clock: Clock
) -> None:
    first = due(databases)
    with store_of(databases, BY_THIS_CLOCK) as store:
        fired = []
        for at in (first - SECOND, first - HOUR, first - SECOND / 1_000_000, first):
            clock.says(at)
            fired.append(fire_due(store, JOBS))
        assert fired == [0, 0, 0, 1]
        clock.says(first - HOUR)
        second = due(databases)
        assert first < second
        for at in (first - HOUR, first, second - SECOND / 1_000_000, first - HOUR):
            clock.says(at)
            assert fire_due(store, JOBS) == 0
        assert intents(databases) == [(LOG, "waiting", None)]
        clock.says(second)
        assert [fire_due(store, JOBS), fire_due(store, JOBS)] == [1, 0]
    assert intents(databases) == [(LOG, "waiting", None)] * 2


def test_a_clock_that_goes_back_after_a_reminder_was_found_leaves_it_for_later(
    databases: Databases, clock: Clock
) -> None:
    due_at = due(databases)
    waiting = reminders(databases)
    with store_of(databases, BY_THIS_CLOCK) as store:
        clock.says(due_at)
        store.meanwhile = lambda: clock.says(due_at - SECOND)
        assert fire_due(store, JOBS) == 0
        assert (reminders(databases), intents(databases)) == (waiting, [])
        clock.says(due_at)
        store.meanwhile = lambda: None
        assert fire_due(store, JOBS) == 1
    assert (reminders(databases), intents(databases)) == (set(), [(LOG, "waiting", None)])


def test_of_a_reminder_that_is_forgotten_in_the_same_look_nothing_is_written(
    databases: Databases,
) -> None:
    """Whoever only follows what ends soon keeps nothing of it: neither a row nor a subject."""
    forgetful = replace(JOBS, evolve=nothing_to_remember)
    known, ended = uuid4(), uuid4()
    write(databases, [job_event(databases.settings, known, 1, JobAsked(what="x", seconds=60))])
    read_by_reaction(databases, forgetful)
    assert reminders(databases) == {known}
    write(
        databases,
        [
            job_event(databases.settings, ended, 1, JobAsked(what="x", seconds=60)),
            job_event(databases.settings, ended, 2, JobEnded(outcome="done")),
            job_event(databases.settings, known, 2, JobEnded(outcome="done")),
        ],
    )
    read_by_reaction(databases, forgetful)
    assert reminders(databases) == set()
    with databases.as_owner() as owner:
        assert owner.execute("SELECT id FROM reaction.subject").fetchall() == [(known,)]


def test_a_reaction_that_rests_reads_what_came_meanwhile_and_ends_at_once(
    databases: Databases,
) -> None:
    """It rests for longer than anybody waits: the first look finds all there is, then it stops."""
    resting = replace(JOBS, events=(JobAsked,), rest_seconds=NEVER_SECONDS)
    first, second = uuid4(), uuid4()
    for job in (first, second):
        events = (JobAsked(what="x", seconds=60), JobEnded(outcome="done"))
        write(
            databases,
            [job_event(databases.settings, job, nth, each) for nth, each in enumerate(events, 1)],
        )
        # Of their ends it is not told.
        read_by_reaction(databases, resting)
    assert reminders(databases) == {first, second}


def test_a_hundred_thousand_that_are_due_together_are_taken_in_batches(
    databases: Databases,
) -> None:
    with databases.as_owner() as owner:
        owner.execute(ADD_SUBJECTS, [MANY])
        owner.execute(HAVE_ALL_DUE)
    asked: list[Reminder] = []

    def note(reminder: Reminder, _state: State) -> Sequence[Intent]:
        asked.append(reminder)
        return ()

    noting = replace(JOBS, remind=note)
    sizes = []
    with store_of(databases) as store:
        while fire_due(store, noting):
            sizes.append(len(asked) - sum(sizes))
    assert sizes == [BATCH] * (MANY // BATCH)
    assert len({each.subject for each in asked}) == MANY
    assert not reminders(databases)
