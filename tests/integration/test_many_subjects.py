"""A reaction looks at the subjects that it is told of, however many it knows already."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest
from psycopg import Connection

from codebase.engine.reactions.recording import lock_subjects, write_states
from codebase.engine.reactions.reminders import fire_due
from tests.integration.flow import eventually, waits_for_a_lock
from tests.integration.jobs import JOBS
from tests.integration.test_reactions import store_of
from tests.patience import PATIENCE_SECONDS

if TYPE_CHECKING:
    from tests.databases import Databases

# Nothing follows from a reminder.
QUIET = replace(JOBS, remind=lambda _, __: (), reminded=lambda _, state: state)
KNOWN = 25_000
TOGETHER = 100

# Nobody may count them: of a table that has just grown the planner knows nothing.
COUNT_NEVER = "ALTER TABLE reaction.subject SET (autovacuum_enabled = off)"
FILL = """
    INSERT INTO reaction.subject (reaction, id)
    SELECT %s, gen_random_uuid() FROM generate_series(1, %s)
"""
REMIND = """
    INSERT INTO reminder (reaction, subject, name, key, due_at, data)
    SELECT %s, id, 'wake', gen_random_uuid(), now(), '{}' FROM unnest(%s::uuid[]) AS known (id)
"""
ROWS_READ = """
    SELECT seq_tup_read + (
        SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relid = seen.relid
    )::bigint
    FROM pg_stat_user_tables AS seen
    WHERE relid = 'reaction.subject'::regclass
"""
WAITER = "waits for a subject"

Store = Connection[Any]


def get_known(store: Store, subjects: Sequence[UUID]) -> None:
    with store.transaction(), store.cursor() as cursor:
        lock_subjects(cursor, QUIET.name, subjects)


def get_new(store: Store, subjects: Sequence[UUID]) -> None:
    get_known(store, [uuid4() for _ in subjects])


def lock(store: Store, subjects: Sequence[UUID]) -> None:
    with store.transaction(), store.cursor() as cursor:
        lock_subjects(cursor, QUIET.name, subjects, add=())


def remember(store: Store, subjects: Sequence[UUID]) -> None:
    with store.transaction(), store.cursor() as cursor:
        write_states(cursor, QUIET.name, {each: {"asked": 1} for each in subjects})


def fire(store: Store, subjects: Sequence[UUID]) -> None:
    store.execute(REMIND, [QUIET.name, list(subjects)])
    assert fire_due(store, QUIET) == len(subjects)


def rows_read(store: Store) -> int:
    """Rows of subjects, and entries of their index, that were read so far."""
    store.execute("SELECT pg_stat_force_next_flush()")
    row = store.execute(ROWS_READ).fetchone()
    assert row is not None
    return int(row[0])


@pytest.fixture
def few_known(databases: Databases) -> Iterator[Store]:
    with databases.as_owner() as owner:
        owner.execute(COUNT_NEVER)
    with store_of(databases) as store:
        yield store


@pytest.mark.parametrize("plans", ["force_generic_plan", "force_custom_plan"])
@pytest.mark.parametrize("act", [get_known, get_new, lock, remember, fire])
def test_what_is_done_for_some_subjects_reads_no_others(
    databases: Databases,
    few_known: Store,
    act: Callable[[Store, Sequence[UUID]], None],
    plans: str,
) -> None:
    """Whether a connection keeps its plans from when there were few, or makes new ones."""
    few_known.execute("SELECT set_config('plan_cache_mode', %s, false)", [plans])
    subjects = [uuid4() for _ in range(TOGETHER)]
    get_known(few_known, subjects)
    assert few_known.prepare_threshold is not None
    for _ in range(2 * few_known.prepare_threshold):
        act(few_known, subjects[:1])
    with databases.as_owner() as owner:
        owner.execute(FILL, [QUIET.name, KNOWN])
    before = rows_read(few_known)
    act(few_known, subjects)
    assert rows_read(few_known) - before <= 5 * TOGETHER


@pytest.mark.parametrize("is_known", [True, False])
def test_who_waited_for_a_subject_is_told_what_is_known_of_it_now(
    databases: Databases, few_known: Store, *, is_known: bool
) -> None:
    """Who adds one keeps it from others as well, though nobody sees it yet."""
    subject = uuid4()
    if is_known:
        get_known(few_known, [subject])
    told = list[dict[UUID, Any]]()

    def wait_for_it() -> None:
        with store_of(databases) as other, other.transaction(), other.cursor() as cursor:
            cursor.execute("SELECT set_config('application_name', %s, false)", [WAITER])
            told.append(lock_subjects(cursor, QUIET.name, [subject]))

    waiting = threading.Thread(target=wait_for_it)
    with few_known.transaction(), few_known.cursor() as cursor:
        assert lock_subjects(cursor, QUIET.name, [subject]) == {subject: None}
        write_states(cursor, QUIET.name, {subject: {"asked": 7}})
        waiting.start()
        eventually(lambda: waits_for_a_lock(databases.server, WAITER))
    waiting.join(PATIENCE_SECONDS)
    assert told == [{subject: {"asked": 7}}]


def test_of_subjects_some_may_be_new(few_known: Store) -> None:
    known, new, unknown = uuid4(), uuid4(), uuid4()
    get_known(few_known, [known])
    remember(few_known, [known])
    with few_known.transaction(), few_known.cursor() as cursor:
        found = lock_subjects(cursor, QUIET.name, [new, known, unknown], add=[new])
    assert found == {known: {"asked": 1}, new: None}
