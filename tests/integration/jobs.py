"""An example of a reaction: jobs that somebody outside does, and a shop that does them.

A job is asked for; the reaction has the shop do it, and notes in the job what became of it. A job
that nobody has done when its time is over is given up.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, LiteralString
from uuid import UUID, uuid4

from aiohttp import web
from prometheus_client import REGISTRY
from pydantic import BaseModel

from codebase.engine.commands.bus import CommandBus
from codebase.engine.commands.submission import Submission
from codebase.engine.log.codec import encode
from codebase.engine.log.events import NewEvent
from codebase.engine.log.identifiers import partition_of
from codebase.engine.messages.command_message import CommandMessage
from codebase.engine.messages.command_taker import CommandTaker
from codebase.engine.reactions.broker_target import BrokerTarget
from codebase.engine.reactions.bus_target import BusTarget, CommandOn
from codebase.engine.reactions.http_target import Call, HttpTarget
from codebase.engine.reactions.reaction import (
    Answer,
    Forget,
    Happened,
    Intent,
    Reaction,
    Remind,
    Reminder,
    Send,
    Sent,
)
from codebase.engine.reactions.reading import projector_of
from codebase.engine.reactions.target import Target
from codebase.engine.reactions.team import ReactionTeam
from codebase.foundation.http_session import http_session
from codebase.foundation.settings import Settings
from codebase.model.aggregate import Aggregate
from tests.integration.answering import answering
from tests.integration.flow import eventually, heads, meta, projecting
from tests.patience import PATIENCE_SECONDS

if TYPE_CHECKING:
    from tests.databases import Databases

SHOP, LOG = "shop", "log"


@dataclass(frozen=True, kw_only=True, slots=True)
class JobAsked:
    what: str
    seconds: float | None = None
    """Until it is given up."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JobEnded:
    outcome: str


Event = JobAsked | JobEnded


@dataclass(frozen=True, kw_only=True, slots=True)
class EndJob:
    outcome: str


def decide(command: EndJob, state: str | None) -> list[Event]:
    return [JobEnded(outcome=command.outcome)] if state == "asked" else []


def evolve(state: str | None, event: Event) -> str:  # noqa: ARG001 - as every aggregate
    return "asked" if isinstance(event, JobAsked) else event.outcome


JOB = Aggregate[EndJob, Event, str](
    category="job",
    events=(JobAsked, JobEnded),
    decide=decide,
    evolve=evolve,
    topic=lambda event: f"job.{'asked' if isinstance(event, JobAsked) else 'ended'}",
)


def react(happened: Happened, state: Mapping[str, Any]) -> Sequence[Intent]:
    match happened.event:
        case JobAsked(what="poison"):
            raise ValueError("nobody knows what that means")
        case JobAsked(what="nothing"):
            return ()
        case JobAsked(what=what, seconds=None):
            return [Send(SHOP, "do", {"what": what, "nth": state["asked"]})]
        case JobAsked(seconds=float(seconds)):
            return [Remind("give up", happened.recorded_at + timedelta(seconds=seconds))]
        case JobEnded():
            return [Forget("give up")]
        case _:
            raise AssertionError(happened)


def remember(state: Mapping[str, Any] | None, happened: Happened) -> Mapping[str, Any]:
    known = state or {"asked": 0, "ended": 0}
    which = "asked" if isinstance(happened.event, JobAsked) else "ended"
    return {**known, which: known[which] + 1}


def remind(reminder: Reminder, state: Mapping[str, Any]) -> Sequence[Intent]:
    if state["ended"]:
        return ()
    return [Send(LOG, "end", {"job": str(reminder.subject), "outcome": "given up"})]


def outcome(sent: Sent, answer: Answer) -> Sequence[Intent]:
    match sent.send.target:
        case "shop":
            became = answer.refused or answer.data["became"]
            return [Send(LOG, "end", {"job": str(sent.subject), "outcome": became})]
        case _:
            return ()


JOBS = Reaction(
    name="jobs",
    aggregates=(JOB,),
    subject=lambda happened: happened.stream_id,
    evolve=remember,
    react=react,
    remind=remind,
    outcome=outcome,
)


def call(sent: Sent) -> Call:
    return Call(method="POST", path=f"/do/{sent.subject}", body=dict(sent.send.data))


def inquiry(sent: Sent) -> Call:
    return Call(method="GET", path=f"/done/{sent.key}")


def command(sent: Sent) -> CommandOn:
    data = sent.send.data
    return CommandOn(
        aggregate=JOB, stream_id=UUID(data["job"]), command=EndJob(outcome=data["outcome"])
    )


class EndMessage(BaseModel):
    """The same command by the exchange `commands`."""

    job: UUID
    outcome: str
    idempotence_key: str


def message(sent: Sent) -> tuple[str, bytes]:
    body = {**sent.send.data, "idempotence_key": str(sent.key)}
    return "job.end", json.dumps(body).encode()


def read_message(arrived: CommandMessage) -> Submission:
    body = arrived.read(EndMessage)
    return arrived.submission(
        "end_job",
        JOB,
        body.job,
        EndJob(outcome=body.outcome),
        key=body.idempotence_key,
        body=body,
        path={"job": body.job},
    )


@contextmanager
def ending_jobs_by_message(settings: Settings) -> Iterator[None]:
    """The service that takes those messages."""

    @asynccontextmanager
    async def taking() -> AsyncIterator[None]:
        async with CommandBus.open(settings) as bus:
            taker = CommandTaker("end_job", ("job.#",), {"job.end": read_message}, bus, settings)
            async with taker.at_work(lambda: PATIENCE_SECONDS):
                yield

    with on_a_loop(taking):
        yield


def asked(
    settings: Settings, *whats: str, job: UUID | None = None, after: int = 0
) -> list[NewEvent]:
    """Events of one job, which ask for these things one after the other."""
    job = job or uuid4()
    return [
        job_event(settings, job, version, JobAsked(what=what))
        for version, what in enumerate(whats, after + 1)
    ]


def job_event(settings: Settings, job: UUID, version: int, event: Event) -> NewEvent:
    return NewEvent(
        unit=0,
        partition=partition_of(job, settings.partitions),
        stream_id=job,
        category="job",
        version=version,
        type=type(event).__name__,
        idempotence_key=None,
        data=encode(event),
        meta=meta(JOB.topic(event)),
        guards=(),
    )


@dataclass(frozen=True, slots=True)
class Seen:
    """A call as the shop saw it: of which key, by whom, and what it did then."""

    key: str
    caller: str
    manner: str


NOT_DONE: Mapping[str, Callable[[], web.Response]] = {
    "refuse": lambda: web.json_response({"detail": "not here"}, status=HTTPStatus.CONFLICT),
    "mumble": lambda: web.json_response(
        text=r'{"detail": "\ud800\u0000"}', status=HTTPStatus.CONFLICT
    ),
    "forbid": lambda: web.json_response({}, status=HTTPStatus.FORBIDDEN),
    "fail": lambda: web.json_response({}, status=HTTPStatus.INTERNAL_SERVER_ERROR),
    "busy": lambda: web.json_response({}, status=HTTPStatus.SERVICE_UNAVAILABLE),
    "hang": lambda: web.json_response({}, status=HTTPStatus.SERVICE_UNAVAILABLE),
}
"""What the shop answers when it does nothing, by its manner; it hangs until it is closed."""


@dataclass
class Shop:
    """Does things over HTTP, each key once; or does not, as its `manner` for a key says."""

    url: str = ""
    honours_keys: bool = True
    """Or else every call that is done is done once more."""
    done: list[tuple[str, str]] = field(default_factory=list)
    """(job, what), in the order in which it was done."""
    keys: dict[str, dict[str, Any]] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    seen: list[Seen] = field(default_factory=list)
    """All calls, in their order."""
    inquiries: Counter[str] = field(default_factory=Counter)
    manner: Callable[[Mapping[str, Any], int], str] = lambda _body, _nth: "do"
    """(what was asked, which call of its key this is) -> what the shop does."""
    unwilling: int = 0
    """So many inquiries of each key are refused at first."""
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    changed: threading.Condition = field(default_factory=threading.Condition)

    async def do(self, request: web.Request) -> web.StreamResponse:
        key, body = request.headers["Idempotency-Key"], await request.json()
        with self.changed:
            self.calls[key] += 1
            manner = self.manner(body, self.calls[key])
            self.seen.append(Seen(key, request.headers.get("Caller", ""), manner))
            self.changed.notify_all()
        if manner == "hang":
            await self.closing.wait()
        if manner in NOT_DONE:
            return NOT_DONE[manner]()
        self._act(key, request.match_info["job"], body["what"])
        if manner == "cut" and request.transport is not None:
            request.transport.abort()
        if manner == "do and hang":
            await self.closing.wait()
        answer = web.json_response(self.keys[key])
        answer.enable_compression()  # for whoever says that he takes it
        return answer

    async def tell(self, request: web.Request) -> web.Response:
        key = request.match_info["key"]
        self.inquiries[key] += 1
        if self.inquiries[key] <= self.unwilling:
            return web.json_response({"detail": "ask nicely"}, status=HTTPStatus.BAD_REQUEST)
        if key not in self.keys:
            return web.json_response({}, status=HTTPStatus.NOT_FOUND)
        return web.json_response(self.keys[key])

    def _act(self, key: str, job: str, what: str) -> None:
        with self.changed:
            if key not in self.keys or not self.honours_keys:
                self.keys[key] = {"became": f"{what} done"}
                self.done.append((job, what))
            self.changed.notify_all()


@contextmanager
def shop_open(port: int) -> Iterator[Shop]:
    """A shop on a loopback port."""
    shop = Shop(url=f"http://127.0.0.1:{port}")

    routes = (web.post("/do/{job}", shop.do), web.get("/done/{key}", shop.tell))
    with on_a_loop(lambda: answering(port, *routes, closing=shop.closing.set)):
        yield shop


class OnALoop:
    """What was opened on an event loop of a thread, for tests that have none."""

    def __init__(self, loop: asyncio.AbstractEventLoop, opened: Any) -> None:  # noqa: ANN401 - whatever was opened
        self._loop = loop
        self._opened = opened

    def problem(self) -> str | None:
        """What a team's readiness check says."""
        asked = asyncio.run_coroutine_threadsafe(self._opened.problem(), self._loop)
        found: str | None = asked.result(PATIENCE_SECONDS)
        return found


@contextmanager
def on_a_loop(opening: Callable[[], Any]) -> Iterator[OnALoop]:
    """What an asynchronous context manager opens, on an event loop of its own thread."""
    begun, ended = threading.Event(), threading.Event()
    found: list[OnALoop] = []

    async def work() -> None:
        try:
            async with opening() as opened:
                found.append(OnALoop(asyncio.get_running_loop(), opened))
                begun.set()
                await asyncio.to_thread(ended.wait)
        finally:
            begun.set()

    thread = threading.Thread(target=lambda: asyncio.run(work()), daemon=True)
    thread.start()
    assert begun.wait(PATIENCE_SECONDS)
    assert found, "it could not be opened; the thread's traceback says why"
    try:
        yield found[0]
    finally:
        ended.set()
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive()


@asynccontextmanager
async def log_target(
    settings: Settings, reaction: Reaction, deadline_seconds: float
) -> AsyncIterator[Target]:
    """Commands to jobs: by the broker where there is one, otherwise by the bus."""
    if settings.broker_url:
        broker = BrokerTarget(settings.broker_url, LOG, message, deadline_seconds=deadline_seconds)
        async with broker.at_work(lambda: PATIENCE_SECONDS):
            yield broker
    else:
        async with CommandBus.open(settings) as bus:
            yield BusTarget(bus, reaction.name, command, deadline_seconds=deadline_seconds)


@asynccontextmanager
async def jobs_at_work(
    settings: Settings,
    shop_url: str,
    reaction: Reaction = JOBS,
    *,
    deadline_seconds: float = PATIENCE_SECONDS,
    asks: bool = True,
    caller: str = "",
) -> AsyncIterator[ReactionTeam]:
    """Both halves of the reaction, as a service opens them.

    Args:
        settings: with or without a broker.
        shop_url: of a shop.
        reaction: `JOBS`, or something like it.
        deadline_seconds: of the shop.
        asks: whether the shop is asked what became of something.
        caller: what the shop sees of who calls.
    """
    patient = max(PATIENCE_SECONDS, deadline_seconds)
    async with http_session() as session, log_target(settings, reaction, patient) as log:
        shop = HttpTarget(
            session,
            shop_url,
            call,
            inquiry=inquiry if asks else None,
            headers={"Caller": caller},
            deadline_seconds=deadline_seconds,
        )
        targets: dict[str, Target] = {SHOP: shop, LOG: log}
        team = ReactionTeam(settings, reaction, targets)
        async with team.at_work(lambda: PATIENCE_SECONDS):
            yield team


@contextmanager
def working(settings: Settings, shop_url: str, *more: Any, **options: Any) -> Iterator[OnALoop]:  # noqa: ANN401 - of jobs_at_work
    with on_a_loop(lambda: jobs_at_work(settings, shop_url, *more, **options)) as team:
        yield team


def breaker_is_open(target: str) -> bool:
    labels = {"reaction": JOBS.name, "target": target}
    return REGISTRY.get_sample_value("orderly_reaction_breaker_open", labels) == 1


def ids(databases: Databases, statement: LiteralString) -> set[UUID]:
    with databases.as_owner() as store:
        return {row[0] for row in store.execute(statement).fetchall()}


def parked_streams(databases: Databases) -> set[UUID]:
    return ids(databases, "SELECT stream_id FROM reaction.parked_stream")


def reminders(databases: Databases) -> set[UUID]:
    """The jobs of all that have not fired."""
    return ids(databases, "SELECT subject FROM reaction.reminder")


def reached(databases: Databases) -> dict[int, int]:
    """How far the reaction has read."""
    with databases.as_owner() as store:
        return dict(
            store.execute(
                "SELECT partition, position FROM reaction.projection_checkpoint"
            ).fetchall()
        )


def read_by_reaction(databases: Databases, reaction: Reaction = JOBS) -> None:
    """Have the reaction read the log, and nobody act."""
    with projecting(databases.settings, projector_of(reaction)):
        eventually(lambda: reached(databases) == heads(databases))


def outcomes(databases: Databases) -> dict[UUID, list[str]]:
    """Job -> how it ended, as often as it did."""
    found: dict[UUID, list[str]] = {}
    with databases.as_owner() as log:
        for job, ended in log.execute(
            "SELECT stream_id, data ->> 'outcome' FROM event WHERE type = 'JobEnded'"
            " ORDER BY stream_id, version"
        ).fetchall():
            found.setdefault(job, []).append(ended)
    return found


def intents(databases: Databases) -> list[tuple[str, str, str | None]]:
    """(target, state, reason) of all intents, in their order."""
    with databases.as_owner() as store:
        return store.execute(
            "SELECT target, state, reason FROM reaction.intent ORDER BY number"
        ).fetchall()


def told_to_act(databases: Databases) -> Databases:
    """Databases of tests are cloned from a template, and a clone acts only if it is told to."""
    with databases.as_owner() as owner:
        owner.execute("SELECT reaction.adopt()")
    return databases
