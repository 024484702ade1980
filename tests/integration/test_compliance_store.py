"""Compliance's view equals the model's fold, its queries stay cheap, its sender loses nothing."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest
from codebase.services.compliance.carriers import (
    LONGEST_PAUSE_SECONDS,
    AwayError,
    Carried,
    Carrier,
    Due,
    outcome_of,
    pause_after,
)
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from psycopg import Connection

from codebase.engine.commands.fingerprint import Content, Fingerprints
from codebase.engine.projections.projector import projector_team
from codebase.foundation.worker import Team, Worker
from codebase.operations.rebuild import rebuild
from codebase.operations.verify import verify
from codebase.registry import SYSTEM
from codebase.services.compliance import queries, requests, sender
from codebase.services.compliance.projections import COMPLIANCE
from codebase.services.compliance.requests import NewRequest, Requests, State
from tests.integration.flow import at_work, eventually, is_projected, waits_for_a_lock
from tests.integration.histories import World, busy, logged, worlds, write_history
from tests.integration.test_pages import blocks, nodes
from tests.patience import NEVER_SECONDS, PATIENCE_SECONDS

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


def test_compliance_is_ready_while_a_request_waits_to_be_stored(databases: Databases) -> None:
    fingerprints = Fingerprints.configured(databases.settings)

    async def scenario() -> None:
        async with Requests.open(databases.settings, fingerprints) as stored:
            with databases.as_read_model_owner() as owner, owner.transaction():
                owner.execute("LOCK TABLE compliance_request IN EXCLUSIVE MODE")
                request = NewRequest(
                    id=uuid4(),
                    agent_id=uuid4(),
                    action="block",
                    reason=None,
                    requested_by="local",
                    content=Content(b"block"),
                )
                adding = asyncio.create_task(stored.add(request))
                while not waits_for_a_lock(databases.server, "compliance"):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                assert await stored.ready() is None
                assert not adding.done()
            await adding

    asyncio.run(scenario())


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
# Every third is open, and many of them wait behind others for the same agent.
FILL_REQUESTS = """
    INSERT INTO compliance_request
        (id, agent_id, action, requested_by, fingerprint, state, due_at, answered_at)
    SELECT gen_random_uuid(), md5((number %% 5000)::text)::uuid, 'block', 'a', 'a',
           CASE WHEN number %% 3 = 0 THEN 'sent' ELSE 'done' END,
           now() + (number - 10) * interval '1 second',
           CASE WHEN number %% 3 <> 0 THEN now() END
    FROM generate_series(1, %s) AS number
"""


@pytest.fixture
def full(databases: Databases) -> Connection[Any]:
    with databases.as_read_model_owner() as owner:
        owner.execute(FILL_AGENTS, [ROWS])
        owner.execute(FILL_REQUESTS, [ROWS])
        owner.execute("ANALYZE compliance_agent, compliance_request")
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
    deep = "SELECT id FROM {} ORDER BY {} OFFSET 90000 LIMIT 1"
    with full:
        agent = full.execute(deep.format("compliance_agent", 'lower(name) COLLATE "C", id'))
        (agent_id,) = agent.fetchone() or (None,)
        request = full.execute(deep.format("compliance_request", "number DESC"))
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
                (requests.READ_PAGE, {"reference": reference, "size": 10})
                for reference in (None, request_id)
            ),
            (requests.READ_REQUEST, {"id": request_id}),
            (requests.OPEN_ACTIONS, {"agent_ids": [uuid4(), account[0]]}),
        ]
        for statement, values in asked:
            found = plan(full, statement, values)
            assert "Seq Scan" not in tables_read(found), values
            assert blocks(found) < 150, (statement, values, blocks(found))
        # Of thirty thousand that are open a few are due.
        few = [(sender.READ_DUE, {"limit": 100})]
        # Of sixty thousand that have an outcome none is old.
        few += [(requests.FORGET_ANSWERED, {"days": 1, "rows": 1000})]
        for statement, limits in few:
            found = plan(full, statement, limits)
            assert "Seq Scan" not in tables_read(found)
            assert blocks(found) < 150


def tables_read(found: Mapping[str, Any]) -> set[str]:
    """How the tables of ours are read."""
    return {
        node["Node Type"]
        for node in nodes(dict(found))
        if node.get("Relation Name", "").startswith("compliance_")
    }


# The sender, with carriers of the tests' own.


@contextmanager
def sending(databases: Databases, carrier: Carrier) -> Iterator[sender.Sender]:
    stop = threading.Event()
    made = sender.Sender(databases.settings, carrier, stop)
    with at_work(Team([Worker("sender", made.run, stop=stop, wake=made.wake)], [])):
        yield made


def ask(databases: Databases, agent_id: UUID, action: str = "block") -> UUID:
    request_id = uuid4()
    values = {
        "id": request_id,
        "agent_id": agent_id,
        "action": action,
        "reason": None,
        "requested_by": "local",
        "fingerprint": "",
    }
    with databases.as_read_model_owner() as owner:
        owner.execute(requests.INSERT_REQUEST, values)
    return request_id


def states(databases: Databases) -> list[tuple[str, int]]:
    """State and attempts of each request, in their order."""
    with databases.as_read_model_owner() as owner:
        return owner.execute(
            "SELECT state, attempts FROM compliance_request ORDER BY number"
        ).fetchall()


class Scripted:
    """A way on which each request meets what the test has in store for it."""

    def __init__(self, meet: Callable[[Due, int], Carried]) -> None:
        self._meet = meet
        self.carried: list[UUID] = []

    def carry(self, due: Sequence[Due]) -> Iterator[Carried]:
        for request in due:
            self.carried.append(request.id)
            yield self._meet(request, self.carried.count(request.id))


def test_a_reply_that_is_faster_than_the_note_counts(databases: Databases) -> None:
    def answered_at_once(request: Due, _nth: int) -> Carried:
        with databases.as_read_model_owner() as owner:
            owner.execute(
                "UPDATE compliance_request SET state = 'done', answered_at = clock_timestamp()"
            )
        return Carried(id=request.id, state=State.SENT)

    way = Scripted(answered_at_once)
    ask(databases, uuid4())
    with sending(databases, way):
        eventually(lambda: states(databases) == [("done", 0)])
        second = ask(databases, uuid4())
        eventually(lambda: second in way.carried)
        eventually(lambda: [state for state, _ in states(databases)] == ["done", "done"])
    assert len(way.carried) == 2


def test_what_was_sent_before_the_way_broke_is_noted(databases: Databases) -> None:
    """And the rest is tried again, from where it broke."""
    broken = threading.Event()

    def break_at_the_third(request: Due, nth: int) -> Carried:
        if request.id == asked[2] and nth < 3:
            broken.set()
            raise AwayError("the bridge is down")
        return Carried(id=request.id, state=State.DONE)

    asked = [ask(databases, uuid4()) for _ in range(4)]
    way = Scripted(break_at_the_third)
    with sending(databases, way) as one:
        assert broken.wait(PATIENCE_SECONDS)
        eventually(lambda: [state for state, _ in states(databases)] == ["done"] * 4)
        eventually(lambda: one.away is None)
    assert way.carried == [*asked[:3], asked[2], *asked[2:]]


def test_the_next_request_for_an_agent_waits_for_the_outcome_of_the_one_before(
    databases: Databases,
) -> None:
    """Or the first, sent again because its answer was lost, would undo the second."""
    same = uuid4()
    first, second, other = (ask(databases, agent_id) for agent_id in (same, same, uuid4()))

    def lost_at_first(request: Due, nth: int) -> Carried:
        if request.id == first and nth < 3:
            return Carried(id=request.id, state=State.SENT)
        return Carried(id=request.id, state=State.DONE)

    way = Scripted(lost_at_first)
    with sending(databases, way):
        eventually(lambda: [state for state, _ in states(databases)] == ["done"] * 3)
    assert [one for one in way.carried if one != other] == [first, first, first, second]


def test_what_may_have_been_sent_does_not_go_back_to_waiting(databases: Databases) -> None:
    def sent_and_then_refused(request: Due, nth: int) -> Carried:
        state = State.SENT if nth == 1 else State.WAITING
        return Carried(id=request.id, state=state, pause_seconds=0 if nth == 1 else NEVER_SECONDS)

    ask(databases, uuid4())
    with sending(databases, Scripted(sent_and_then_refused)):
        eventually(lambda: states(databases) == [("sent", 2)])


DUE = Due(id=uuid4(), agent_id=uuid4(), action="block", reason=None, attempts=2)
PROBLEM = b'{"type":"/problems/a","title":"A","status":404,"detail":"why","instance":"1"}'


@pytest.mark.parametrize(
    ("answer", "state", "detail"),
    [
        (httpx.Response(202, headers={"Outcome": "done"}), State.DONE, None),
        (httpx.Response(202, headers={"Outcome": "unchanged"}), State.UNCHANGED, None),
        (httpx.Response(404, content=PROBLEM), State.REFUSED, "why"),
        (httpx.Response(422, content=PROBLEM), State.REFUSED, "why"),
        (httpx.Response(202), State.WAITING, "block_agent answered 202"),
        (httpx.Response(202, headers={"Outcome": "?"}), State.WAITING, "block_agent answered 202"),
        (httpx.Response(404, content=b"<html>"), State.WAITING, "block_agent answered 404"),
        (httpx.Response(302), State.WAITING, "block_agent answered 302"),
        *(
            (
                httpx.Response(status, content=PROBLEM),
                State.WAITING,
                f"block_agent answered {status}",
            )
            for status in (401, 403, 408, 429, 500, 503)
        ),
    ],
)
def test_what_an_answer_of_block_agent_means(
    answer: httpx.Response, state: State, detail: str | None
) -> None:
    carried = outcome_of(DUE, answer)
    assert (carried.state, carried.detail) == (state, detail)
    assert (carried.pause_seconds > 0) == (state is State.WAITING)


def test_pauses_grow_and_end() -> None:
    pauses = [pause_after(attempts, 1.0) for attempts in (0, 1, 5, 100, 10**9)]
    assert pauses == [1.0, 2.0, 32.0, LONGEST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS]
