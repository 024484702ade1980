"""Compliance's view of agents equals the model's fold, and its queries stay cheap."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from psycopg import Connection

from codebase.engine.projections.projector import projector_team
from codebase.foundation.worker import Team
from codebase.operations.rebuild import rebuild
from codebase.operations.verify import verify
from codebase.registry import SYSTEM
from codebase.services.compliance.service import PROJECTOR as COMPLIANCE
from codebase.views.accounts import compliance_agents as queries
from codebase.views.accounts import compliance_requests as requests
from tests.integration.flow import at_work, eventually, is_projected
from tests.integration.histories import World, busy, logged, worlds, write_history
from tests.integration.test_pages import blocks, nodes

if TYPE_CHECKING:
    from tests.databases import Databases

Shown = tuple[UUID, str, str, str, bool, bool]
READ_AGENTS = """
    SELECT account_id, name, email, region, is_blocked, removed_at IS NOT NULL
    FROM compliance_agent
    ORDER BY id
"""


def shown_by(world: World) -> list[Shown]:
    """What the view must hold, from the states of the world's agents."""
    return [
        (
            one.created.account_id,
            one.created.name,
            one.created.email,
            one.created.region.value,
            one.is_blocked,
            one.is_removed,
        )
        for _, one in sorted(world.agents.items())
    ]


@pytest.fixture(scope="module")
def store(new_databases: Callable[[], Databases]) -> Iterator[Connection[Any]]:
    """A read model whose every use is rolled back."""
    made = new_databases()
    with psycopg.connect(made.settings.required("read_model_projector_url")) as connection:
        yield connection


@given(world=worlds(), sizes=st.lists(st.integers(1, 12), min_size=1, max_size=4), data=st.data())
@examples(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_the_view_is_what_became_of_every_agent_however_often_an_event_comes(
    store: Connection[Any], world: World, sizes: list[int], data: st.DataObject
) -> None:
    events = [event for event in logged(world.happened) if event.category == "agent"]
    late = data.draw(st.lists(st.sampled_from(events), max_size=5)) if events else []
    rest, turn = events, 0
    try:
        with store.cursor(binary=True) as cursor:
            while rest:
                size, turn = sizes[turn % len(sizes)], turn + 1
                batch, rest = rest[:size], rest[size:]
                for _ in range(2):
                    COMPLIANCE.apply(cursor, batch)
            for event in late:
                COMPLIANCE.apply(cursor, [event])
            assert cursor.execute(READ_AGENTS).fetchall() == shown_by(world)
    finally:
        store.rollback()


@contextmanager
def compliance_at_work(databases: Databases) -> Iterator[Team]:
    with at_work(projector_team(databases.settings, COMPLIANCE)) as team:
        yield team
        eventually(lambda: is_projected(databases, COMPLIANCE.name))


def test_the_whole_history_is_taken_in_verified_and_rebuilt(databases: Databases) -> None:
    world = busy(3)
    half = len(world.happened) // 2
    write_history(databases, world.happened[:half])
    with compliance_at_work(databases):
        eventually(lambda: is_projected(databases, COMPLIANCE.name))
        write_history(databases, world.happened[half:])
    assert differences(databases) == []
    with databases.as_read_model_owner() as owner:
        assert owner.execute(READ_AGENTS).fetchall() == shown_by(world)
        owner.execute("UPDATE compliance_agent SET is_blocked = NOT is_blocked, version = 0")
    assert len(differences(databases)) > 0
    report = rebuild(databases.settings, COMPLIANCE, "compliance_agents", say=lambda _: None)
    assert report.differing_rows > 0
    assert differences(databases) == []


def differences(databases: Databases) -> Sequence[object]:
    return verify(databases.settings, SYSTEM.aggregates, [COMPLIANCE], say=lambda _: None)


ROWS = 100_000
FILL_AGENTS = """
    INSERT INTO compliance_agent
    SELECT gen_random_uuid(), md5((number / 100)::text)::uuid, 'Agent ' || number,
           'a' || number || '@example.org', 'emea', number %% 100 = 0, now(), NULL, 1
    FROM generate_series(1, %s) AS number
"""
# Every third is open, and many of them are about the same agent.
FILL_REQUESTS = """
    INSERT INTO compliance_asked
        (id, version, request_id, agent_id, action, requested_by, requested_at, state, answered_at)
    SELECT md5((number %% 5000)::text)::uuid, number, gen_random_uuid(),
           md5((number %% 5000)::text)::uuid, 'block', 'a', now() - number * interval '1 second',
           CASE WHEN number %% 3 = 0 THEN 'sent' ELSE 'done' END,
           CASE WHEN number %% 3 <> 0 THEN now() END
    FROM generate_series(1, %s) AS number
"""


@pytest.fixture
def full(databases: Databases) -> Connection[Any]:
    with databases.as_read_model_owner() as owner:
        owner.execute(FILL_AGENTS, [ROWS])
        owner.execute(FILL_REQUESTS, [ROWS])
        owner.execute("ANALYZE compliance_agent, compliance_asked")
    url = databases.settings.required("read_model_projector_url")
    return psycopg.connect(url, autocommit=True)


def plan(
    connection: Connection[Any], statement: str, values: Mapping[str, object]
) -> dict[str, Any]:
    explain = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}"
    row = connection.execute(explain.encode(), values).fetchone()
    assert row
    found: dict[str, Any] = row[0][0]["Plan"]
    return found


def test_no_query_reads_more_than_it_shows(full: Connection[Any]) -> None:
    deep = "SELECT {} FROM {} ORDER BY {} OFFSET 90000 LIMIT 1"
    with full:
        agent = full.execute(deep.format("id", "compliance_agent", 'lower(name) COLLATE "C", id'))
        (agent_id,) = agent.fetchone() or (None,)
        request = full.execute(deep.format("request_id", "compliance_asked", "requested_at DESC"))
        (request_id,) = request.fetchone() or (None,)
        account = full.execute("SELECT account_id FROM compliance_agent LIMIT 1").fetchone()
        assert account
        asked: list[tuple[str, Mapping[str, object]]] = [
            (statement, {"prefixes": [prefix], "references": [reference], "sizes": [10]})
            for statement in (queries.AGENTS_BY_NAME, queries.BLOCKED_BY_NAME)
            for prefix in ("", "agent 9", "nobody")
            for reference in (None, agent_id)
        ]
        asked += [
            (queries.AGENT_BY_EMAIL, {"emails": ["A5@example.org"]}),
            *(
                (queries.AGENTS_BY_ID, {"ids": [one], "references": [None], "sizes": [10]})
                for one in (agent_id, account[0])
            ),
            *(
                (requests.PAGES, {"references": [reference], "sizes": [10]})
                for reference in (None, request_id)
            ),
            (requests.REQUESTS_BY_ID, {"ids": [request_id]}),
            (requests.ASKING_FOR_PARKED, {"ids": [request_id], "projector": COMPLIANCE.name}),
            (requests.ACTIONS_OF, {"agents": [f"{{{uuid4()},{account[0]}}}"]}),
        ]
        for statement, values in asked:
            found = plan(full, statement, values)
            assert "Seq Scan" not in tables_read(found), values
            assert blocks(found) < 150, (statement, values, blocks(found))
        # Of sixty thousand that have an outcome none is old.
        found = plan(full, requests.FORGET_ANSWERED, {"days": 1, "rows": 1000})
        assert "Seq Scan" not in tables_read(found)
        assert blocks(found) < 150


def tables_read(found: Mapping[str, Any]) -> set[str]:
    """How the tables of ours are read."""
    return {
        node["Node Type"]
        for node in nodes(dict(found))
        if node.get("Relation Name", "").startswith("compliance_")
    }
