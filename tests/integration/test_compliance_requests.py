"""Requests of compliance: their view is the fold of the log, and those of before are taken over."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import astuple, fields
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID, uuid4

import psycopg
import pytest
from aiohttp import ClientSession, web
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from psycopg import Connection

from codebase.engine.commands.bus import CommandBus
from codebase.engine.commands.fingerprint import Content
from codebase.engine.commands.submission import Submission
from codebase.engine.log.codec import encode
from codebase.engine.log.events import RecordedEvent
from codebase.engine.log.identifiers import new_event_id
from codebase.engine.messages.command_message import Became, MalformedError, Reply
from codebase.engine.projections.logged_events import LoggedEvent
from codebase.engine.projections.projector import projector_team
from codebase.engine.reactions.attempt import Attempt, Ended
from codebase.engine.reactions.desk import Desk
from codebase.engine.reactions.http_target import HttpTarget
from codebase.engine.reactions.reaction import Send, Sent
from codebase.engine.reactions.reminders import fire_due
from codebase.engine.reactions.service_target import ServiceTarget
from codebase.engine.reactions.store import REACTION_STORE
from codebase.engine.reactions.taken import Returned
from codebase.engine.reactions.target import (
    AwayError,
    FailedError,
    InDoubtError,
    NotAllowedError,
    NotSentError,
)
from codebase.foundation.errors import ServiceUnavailable
from codebase.foundation.http_session import http_session
from codebase.foundation.observability import logs
from codebase.model.accounts.compliance_case import (
    COMPLIANCE_CASE,
    REQUEST,
    Action,
    MakeRequest,
    NoteAnswer,
    NoteSent,
    Outcome,
    case_of,
)
from codebase.model.actor import Actor
from codebase.operations.intents import LEFT_OUT, list_parked, skip
from codebase.operations.rebuild import rebuild
from codebase.operations.verify import verify
from codebase.registry import SYSTEM
from codebase.services.compliance.reaction import BLOCK_AGENT, CASE, compliance
from codebase.services.compliance.service import PROJECTOR as COMPLIANCE
from codebase.services.compliance.takeover import Takeover
from codebase.services.compliance.targets import change, hear
from codebase.views.accounts.compliance_requests import RequestRow, apply, expected_rows
from tests.integration.answering import answering
from tests.integration.flow import at_work, eventually, is_projected
from tests.integration.jobs import read_by_reaction, told_to_act
from tests.patience import NEVER_SECONDS, PATIENCE_SECONDS

if TYPE_CHECKING:
    from tests.databases import Databases

START = datetime(2026, 1, 1, tzinfo=UTC)
AGENTS = [UUID(int=number) for number in range(1, 4)]
COLUMNS = ", ".join(field.name for field in fields(RequestRow))
READ_ROWS = f"SELECT {COLUMNS} FROM compliance_asked ORDER BY id, version"  # noqa: S608 - ours


def make(agent_id: UUID, request_id: UUID | None = None) -> MakeRequest:
    return MakeRequest(
        request_id=request_id or uuid4(),
        agent_id=agent_id,
        action=Action.BLOCK,
        reason="a check",
        requested_by="boss",
    )


# The view


@st.composite
def cases(draw: Callable[[Any], Any]) -> list[tuple[UUID, Any]]:
    """(case, event), by the rules: requests are made, sent and answered, in any order."""
    states: dict[UUID, Any] = {}
    happened, asked = [], [make(AGENTS[0], UUID(int=100))]
    for number in range(draw(st.integers(1, 20))):
        agent = draw(st.sampled_from(AGENTS))
        asked.append(make(agent, UUID(int=101 + number)))
        about = draw(st.sampled_from(asked))
        answer = NoteAnswer(
            request_id=about.request_id,
            outcome=draw(st.sampled_from(Outcome)),
            detail=draw(st.sampled_from([None, "no"])),
        )
        command = draw(st.sampled_from([asked[-1], NoteSent(request_id=about.request_id), answer]))
        case = case_of(command.agent_id if isinstance(command, MakeRequest) else about.agent_id)
        state = states.get(case)
        if isinstance(command, NoteAnswer) and (
            state is None or command.request_id not in state.requests
        ):
            continue
        for event in COMPLIANCE_CASE.decide(command, state):
            states[case] = state = COMPLIANCE_CASE.evolve(state, event)
            happened.append((case, event))
    return happened


def recorded(happened: Sequence[tuple[UUID, Any]]) -> list[RecordedEvent]:
    """The events as the log has them."""
    versions: dict[UUID, int] = {}
    found = []
    for position, (case, event) in enumerate(happened, 1):
        versions[case] = versions.get(case, 0) + 1
        found.append(
            RecordedEvent(
                partition=0,
                position=position,
                stream_id=case,
                category=COMPLIANCE_CASE.category,
                version=versions[case],
                type=type(event).__name__,
                idempotence_key=None,
                data=json.loads(encode(event)),
                meta={},
                recorded_at=START + timedelta(seconds=position),
            )
        )
    return found


def logged(event: RecordedEvent) -> LoggedEvent:
    """The same, as a projection gets it."""
    return LoggedEvent(
        partition=event.partition,
        position=event.position,
        stream_id=event.stream_id,
        category=event.category,
        version=event.version,
        type=event.type,
        recorded_at=event.recorded_at,
        data=json.dumps(event.data),
        event_id=new_event_id(),
    )


@pytest.fixture(scope="module")
def store(new_databases: Callable[[], Databases]) -> Iterator[Connection[Any]]:
    """A read model whose every use is rolled back."""
    made = new_databases()
    with psycopg.connect(made.settings.required("read_model_projector_url")) as connection:
        yield connection


def expected(events: Sequence[RecordedEvent]) -> list[tuple[Any, ...]]:
    rows = [
        astuple(row)
        for case in {event.stream_id for event in events}
        for row in expected_rows(case, [one for one in events if one.stream_id == case])
    ]
    return sorted(rows)


@given(happened=cases(), sizes=st.lists(st.integers(1, 7), min_size=1, max_size=4))
@examples(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_the_view_is_what_became_of_every_request_however_often_an_event_comes(
    store: Connection[Any], happened: list[tuple[UUID, Any]], sizes: list[int]
) -> None:
    events = recorded(happened)
    rest, turn = [logged(event) for event in events], 0
    try:
        with store.cursor(binary=True) as cursor:
            while rest:
                size, turn = sizes[turn % len(sizes)], turn + 1
                batch, rest = rest[:size], rest[size:]
                for _ in range(2):
                    apply(cursor, batch)
            assert sorted(cursor.execute(READ_ROWS).fetchall()) == expected(events)
    finally:
        store.rollback()


# What is verified


def submission(agent_id: UUID, command: object) -> Submission:
    return Submission(
        aggregate=COMPLIANCE_CASE,
        stream_id=case_of(agent_id),
        command=command,
        idempotence_key=None,
        content=Content(b"a test"),
        actor=Actor("boss", is_admin=True),
        command_id=uuid4().hex,
    )


def have(databases: Databases, *commands: tuple[UUID, object]) -> None:
    """Have commands carried out, one after the other."""

    async def all_of_them() -> None:
        async with CommandBus.open(databases.settings) as bus:
            for agent_id, command in commands:
                await bus.execute(submission(agent_id, command))

    asyncio.run(all_of_them())


def project(databases: Databases) -> None:
    with at_work(projector_team(databases.settings, COMPLIANCE)):
        eventually(lambda: is_projected(databases, COMPLIANCE.name))


def differences(databases: Databases) -> list[str]:
    found = verify(databases.settings, SYSTEM.aggregates, [COMPLIANCE], say=lambda _: None)
    return [str(each) for each in found]


def rows(databases: Databases, statement: str = READ_ROWS) -> list[tuple[Any, ...]]:
    with databases.as_read_model_owner() as owner:
        return owner.execute(statement.encode()).fetchall()


def asked_and_answered(databases: Databases) -> MakeRequest:
    """Of one agent: a request that is answered, the one returned, and two that are open."""
    first, *others = [make(AGENTS[0]) for _ in range(3)]
    have(
        databases,
        *((AGENTS[0], one) for one in (first, *others)),
        (AGENTS[0], NoteSent(request_id=first.request_id)),
        (AGENTS[0], NoteAnswer(request_id=first.request_id, outcome=Outcome.DONE)),
    )
    project(databases)
    return first


def test_requests_are_verified_and_rebuilt(databases: Databases) -> None:
    asked_and_answered(databases)
    before = rows(databases)
    assert [row[8] for row in before] == ["done", "waiting", "waiting"]
    assert differences(databases) == []
    with databases.as_read_model_owner() as owner:
        owner.execute("UPDATE compliance_asked SET reason = 'another' WHERE version = 2")
    assert any("reason is another" in one for one in differences(databases))
    report = rebuild(databases.settings, COMPLIANCE, "compliance_requests", say=lambda _: None)
    assert report.differing_rows == 1
    assert (rows(databases), differences(databases)) == (before, [])


DELETE = "DELETE FROM compliance_asked WHERE request_id = %s"
MAKE_OLD = """
    ALTER TABLE event DISABLE TRIGGER USER;
    UPDATE event SET recorded_at = recorded_at - interval '2 days';
    ALTER TABLE event ENABLE TRIGGER USER;
"""


def test_verify_does_not_miss_what_is_old_and_was_answered(databases: Databases) -> None:
    first = asked_and_answered(databases)
    with databases.as_read_model_owner() as owner:
        owner.execute(DELETE, [first.request_id])
    assert differences(databases) == [f"compliance_asked {case_of(AGENTS[0])}: is missing"]
    with databases.as_owner() as log:
        log.execute(MAKE_OLD)
    rebuild(databases.settings, COMPLIANCE, "compliance_requests", say=lambda _: None)
    with databases.as_read_model_owner() as owner:
        owner.execute(DELETE, [first.request_id])
    assert differences(databases) == []
    with databases.as_read_model_owner() as owner:
        owner.execute("DELETE FROM compliance_asked WHERE state = 'waiting' AND version = 2")
    assert differences(databases) == [f"compliance_asked {case_of(AGENTS[0])}: is missing"]


# What an operator does without


def test_what_an_operator_does_without_is_not_done_by_a_copy_behind_it(
    databases: Databases,
) -> None:
    """Given a request that is parked, and more for the same agent since, when it is skipped."""
    told_to_act(databases)
    reaction, [agent, *_] = compliance(reply_wait_seconds=0), AGENTS
    first, second, third = (make(agent, UUID(int=100 + nth)) for nth in range(3))
    desk, url = (
        Desk(reaction, attempts_max=1),
        databases.settings.required("write_model_reaction_url"),
    )
    with psycopg.connect(url, autocommit=True, options=REACTION_STORE.options) as store:
        have(databases, (agent, first))
        read_by_reaction(databases, reaction)
        [taken] = desk.take(store, BLOCK_AGENT, 10, lease_seconds=3600)
        desk.settle(store, [Returned(taken=taken, attempt=Attempt(ended=Ended.FAILED))])
        for more in (second, third):
            have(databases, (agent, more))
            read_by_reaction(databases, reaction)
            assert fire_due(store, reaction) == 1
        [parked] = list_parked(databases.settings)
        assert parked.waiting == 0
        skip(databases.settings, [reaction], parked.key)
        assert fire_due(store, reaction) == 0, "it has its answer, which the log is told now"
        assert desk.take(store, BLOCK_AGENT, 10, lease_seconds=3600) == []
        [noting] = desk.take(store, CASE, 10, lease_seconds=3600)
    assert noting.sent.send.data == {
        "request_id": str(first.request_id),
        "outcome": Outcome.REFUSED,
        "detail": LEFT_OUT,
    }


# Requests of before

FILL_OLD = """
    INSERT INTO compliance_request (id, agent_id, action, reason, requested_by, fingerprint,
                                    requested_at, state, detail, attempts, sent_at, answered_at)
    VALUES (%(id)s, %(agent)s, %(action)s, 'a check', 'boss', 'of a key', %(at)s, %(state)s,
            %(detail)s, 1, %(sent_at)s, %(answered_at)s)
"""
STATES = ("done", "unchanged", "refused", "sent", "waiting")


def left_behind(databases: Databases, agents: Sequence[UUID] = AGENTS) -> list[dict[str, Any]]:
    """What the last release left of each agent: a request in each state, in their order."""
    found = []
    for number, state in enumerate(STATES):
        for agent in agents:
            at = START + timedelta(minutes=len(found))
            found.append(
                {
                    "id": uuid4(),
                    "agent": agent,
                    "action": "block" if number % 2 == 0 else "unblock",
                    "at": at,
                    "state": state,
                    "detail": {"refused": "no", "waiting": "nobody is there"}.get(state),
                    "sent_at": None if state == "waiting" else at + timedelta(seconds=1),
                    "answered_at": at + timedelta(seconds=2) if number < 3 else None,
                }
            )
    with databases.as_read_model_owner() as owner, owner.cursor() as cursor:
        cursor.executemany(FILL_OLD, found)
    return found


@asynccontextmanager
async def taken_over(databases: Databases, processes: int = 1) -> AsyncIterator[CommandBus]:
    """Once all is taken over, by so many processes at the same time."""
    async with CommandBus.open(databases.settings) as bus:
        working = [Takeover(databases.settings, bus) for _ in range(processes)]
        async with asyncio.timeout(PATIENCE_SECONDS), AsyncExitStack() as stack:
            for one in working:
                await stack.enter_async_context(one.at_work())
            while any([await one.problem() for one in working]):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            for one in working:
                one.require()
            yield bus


def take_over(databases: Databases, processes: int = 1) -> None:
    async def all_of_it() -> None:
        async with taken_over(databases, processes):
            pass

    asyncio.run(all_of_it())


def old(databases: Databases) -> list[tuple[Any, ...]]:
    return rows(databases, "SELECT id FROM compliance_request")


def test_requests_of_before_go_into_the_log_as_they_were(databases: Databases) -> None:
    left = left_behind(databases)
    take_over(databases, processes=2)
    assert old(databases) == []
    project(databases)
    shown = rows(
        databases,
        "SELECT request_id, agent_id, action, requested_at, state, detail, sent_at, answered_at"
        " FROM compliance_asked ORDER BY requested_at",
    )
    expected = [
        (
            one["id"],
            one["agent"],
            one["action"],
            one["at"],
            one["state"],
            # What it waits for is found out anew.
            one["detail"] if one["answered_at"] else None,
            one["sent_at"],
            one["answered_at"],
        )
        for one in left
    ]
    assert shown == expected
    assert differences(databases) == []
    with databases.as_owner() as log:
        of_cases = log.execute(
            "SELECT data ->> 'request_id' FROM event WHERE stream_id = %s ORDER BY version",
            [case_of(AGENTS[0])],
        ).fetchall()
    assert [row[0] for row in of_cases] == [
        str(one["id"]) for one in left if one["agent"] == AGENTS[0]
    ]


BREAK = """
    CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION 'not yet';
    END
    $$;
    CREATE TRIGGER keep BEFORE DELETE ON compliance_request
        FOR EACH STATEMENT EXECUTE FUNCTION keep();
"""


def events(databases: Databases) -> int:
    with databases.as_owner() as log:
        [(count,)] = log.execute("SELECT count(*) FROM event").fetchall()
    return int(count)


def test_what_is_in_the_log_when_the_rows_cannot_go_is_there_once(databases: Databases) -> None:
    """As if the process died in between; and until all of it is there nobody may ask for more."""
    left = left_behind(databases)
    with databases.as_read_model_owner() as owner:
        owner.execute(BREAK)

    async def in_vain() -> None:
        async with CommandBus.open(databases.settings) as bus:
            takeover = Takeover(databases.settings, bus)
            async with asyncio.timeout(PATIENCE_SECONDS), takeover.at_work():
                while "RaiseException" not in (await takeover.problem() or ""):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                with pytest.raises(ServiceUnavailable, match="is not taken over"):
                    takeover.require()

    asyncio.run(in_vain())
    assert (len(old(databases)), events(databases)) == (len(left), len(left))
    with databases.as_read_model_owner() as owner:
        owner.execute("DROP TRIGGER keep ON compliance_request")
    take_over(databases)
    assert (len(old(databases)), events(databases)) == (0, len(left))


class Broken:
    """A bus that fails in a way that nobody has thought of, until it is mended."""

    def __init__(self) -> None:
        self.mended: CommandBus | None = None

    async def execute(self, asked: Submission) -> Any:  # noqa: ANN401 - an outcome
        if self.mended is None:
            raise KeyError("a bug")
        return await self.mended.execute(asked)


def test_what_keeps_requests_of_before_is_logged_and_seen_and_tried_again(
    databases: Databases,
) -> None:
    left_behind(databases)

    async def story() -> None:
        broken = Broken()
        takeover = Takeover(databases.settings, cast("CommandBus", broken))
        async with CommandBus.open(databases.settings) as bus, takeover.at_work():
            async with asyncio.timeout(PATIENCE_SECONDS):
                while "KeyError" not in (await takeover.problem() or ""):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                broken.mended = bus
                while await takeover.problem():  # noqa: ASYNC110
                    await asyncio.sleep(0.01)

    lines = io.StringIO()
    with logs.configured(databases.settings, service="test", stream=lines):
        asyncio.run(story())
    said = [json.loads(line) for line in lines.getvalue().splitlines()]
    [failed] = [line for line in said if line["event"] == "dependency_failed"]
    assert failed["cause"] == "KeyError"
    assert old(databases) == []


def test_a_row_whose_key_is_used_for_another_agent_stays(databases: Databases) -> None:
    """A process of the release before may have left it behind after the others had gone."""
    left = left_behind(databases, AGENTS[:1])
    have(databases, (AGENTS[1], make(AGENTS[1], left[0]["id"])))
    take_over(databases)
    assert old(databases) == [(left[0]["id"],)]
    assert events(databases) == len(left)


def test_a_repeat_of_what_was_taken_over_is_one(databases: Databases) -> None:
    [first, *_] = left_behind(databases, AGENTS[:1])

    async def again() -> None:
        async with taken_over(databases) as bus:
            outcome = await bus.execute(submission(AGENTS[0], make(AGENTS[0], first["id"])))
            assert not outcome.changed
            assert outcome.state.requests[first["id"]].requested_at == first["at"]

    asyncio.run(again())


# What comes back by message


def test_an_outcome_finds_its_case(databases: Databases) -> None:
    request = make(AGENTS[0])
    have(databases, (AGENTS[0], request))

    async def heard() -> None:
        async with CommandBus.open(databases.settings) as bus:
            assert await bus.holder(REQUEST, str(request.request_id)) == case_of(AGENTS[0])
            for outcome in (Became.REFUSED, Became.DONE):
                await hear(bus, request.request_id, Reply(outcome=outcome, detail="no"))
            with pytest.raises(MalformedError, match="nobody asked for this"):
                await hear(bus, uuid4(), Reply(outcome=Became.DONE))

    asyncio.run(heard())
    project(databases)
    assert [(row[8], row[9]) for row in rows(databases)] == [("refused", "no")]


# What block_agent answers by HTTP

PROBLEM = {"type": "/problems/a", "title": "A", "status": 404, "detail": "why", "instance": "1"}
Said = tuple[int, Mapping[str, str], object]


def sent(request_id: UUID) -> Sent:
    data = {"request_id": str(request_id), "action": "block", "reason": "a check", "times": 0}
    return Sent(key=uuid4(), subject=AGENTS[0], send=Send("block_agent", "block", data))


def way_to(session: ClientSession, url: str) -> ServiceTarget:
    http = HttpTarget(session, url, lambda sent: change(sent).call, deadline_seconds=NEVER_SECONDS)
    return ServiceTarget(http, change, "block_agent")


@asynccontextmanager
async def block_agent(
    port: int, answer: Callable[[web.Request], web.StreamResponse]
) -> AsyncIterator[ServiceTarget]:
    """The way to somebody who gives that answer."""

    async def handle(request: web.Request) -> web.StreamResponse:
        return answer(request)

    route = web.post("/agents/block_agent/{id}", handle)
    async with answering(port, route) as url, http_session() as session:
        yield way_to(session, url)


def says(status: int, body: object = None, **headers: str) -> Callable[[web.Request], web.Response]:
    if isinstance(body, bytes):
        return lambda _: web.Response(status=status, body=body, content_type="text/html")
    return lambda _: web.json_response(body or {}, status=status, headers=headers)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (says(202, Outcome="done"), (None, "done")),
        (says(202, Outcome="unchanged"), (None, "unchanged")),
        (says(404, PROBLEM), ("404 why", None)),
        (says(422, PROBLEM), ("422 why", None)),
        (says(202), FailedError("block_agent answered without an outcome")),
        (says(202, Outcome="?"), FailedError("block_agent answered without an outcome")),
        (says(404, b"<html>"), FailedError("block_agent answered 404")),
        (says(302), FailedError("block_agent answered 302")),
        (says(500, PROBLEM), FailedError("block_agent answered 500")),
        (says(408, PROBLEM), FailedError("block_agent answered 408")),
        (says(429, PROBLEM), NotSentError("block_agent answered 429")),
        (says(503, PROBLEM), NotSentError("block_agent answered 503")),
        (says(401, PROBLEM), NotAllowedError("block_agent answered 401")),
        (says(403, PROBLEM), NotAllowedError("block_agent answered 403")),
    ],
)
def test_what_an_answer_of_block_agent_means(
    free_port: Callable[[], int],
    answer: Callable[[web.Request], web.StreamResponse],
    expected: tuple[str | None, str | None] | Exception,
) -> None:
    async def asked() -> tuple[str | None, str | None]:
        async with block_agent(free_port(), answer) as way:
            found = await way.send(sent(uuid4()))
            assert way.away is None
        return found.refused, found.data.get("outcome")

    if isinstance(expected, Exception):
        with pytest.raises(type(expected)) as raised:
            asyncio.run(asked())
        assert (type(raised.value), str(raised.value)) == (type(expected), str(expected))
    else:
        assert asyncio.run(asked()) == expected


def test_what_is_asked_by_http_has_the_key_of_the_request(free_port: Callable[[], int]) -> None:
    request_id, heard = uuid4(), list[tuple[str, str]]()

    def note(request: web.Request) -> web.Response:
        heard.append((request.headers["Idempotency-Key"], request.match_info["id"]))
        return says(202, Outcome="done")(request)

    async def asked() -> None:
        async with block_agent(free_port(), note) as way:
            await way.send(sent(request_id))

    asyncio.run(asked())
    assert heard == [(str(request_id), str(AGENTS[0]))]


def test_a_way_that_is_away_or_silent_is_told_of_until_it_is_not(
    free_port: Callable[[], int],
) -> None:
    port = free_port()

    def cut(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async def asked() -> None:
        async with http_session() as session:
            way = way_to(session, f"http://127.0.0.1:{port}")
            with pytest.raises(AwayError):
                await way.send(sent(uuid4()))
            assert way.away == "block_agent is away"
            async with block_agent(port, says(202, Outcome="done")):
                await way.send(sent(uuid4()))
            assert way.away is None
        async with block_agent(port, cut) as way:
            with pytest.raises(InDoubtError):
                await way.send(sent(uuid4()))
            assert way.away == "block_agent does not answer"

    asyncio.run(asked())
