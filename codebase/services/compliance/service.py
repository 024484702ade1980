"""Blocks and unblocks agents by sending commands, and shows what became of each."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from http import HTTPStatus
from uuid import UUID

from fastapi import Depends, FastAPI, Request
from pydantic import BaseModel

from codebase.engine.projections.projector import projector_team
from codebase.engine.reactions.team import ReactionTeam
from codebase.engine.reactions.waiting import Waiting
from codebase.foundation import needs
from codebase.foundation.clock import Clock, utc_now
from codebase.foundation.forgetting import Forgetting, Kept
from codebase.foundation.worker import Team, Worker
from codebase.model.accounts.compliance_case import (
    COMPLIANCE_CASE,
    Action,
    MakeRequest,
    case_of,
)
from codebase.model.refusals import NotFound
from codebase.services.compliance.desk import CATEGORY, Desk
from codebase.services.compliance.form import Reason
from codebase.services.compliance.page import OnlyBlocked, Search, add_page
from codebase.services.compliance.projections import COMPLIANCE
from codebase.services.compliance.reaction import compliance
from codebase.services.compliance.takeover import Takeover
from codebase.services.compliance.targets import (
    details,
    require_admin_token,
    targets,
    way_to_block_agent,
)
from codebase.views.accounts.compliance_agents import AgentPage, Agents
from codebase.views.accounts.compliance_requests import (
    FORGET_ANSWERED,
    Asked,
    ComplianceRequest,
    Requests,
)
from codebase.views.accounts.settings import AccountSettings
from codebase.web.consistent_reads import ConsistentReads
from codebase.web.pages import SIZE_DEFAULT, LastReference, PageSize, Size
from codebase.web.parked import LISTS, NAMES_ONE
from codebase.web.runtime import Runtime
from codebase.web.shell import (
    LOCATION,
    Answer,
    Check,
    Command,
    command,
    require_admin,
    require_operator,
    service_app,
)

PORT = 8060
NEEDS = (
    *needs.PROJECTOR,
    *needs.QUERIES,
    *needs.COMMANDS,
    *needs.REACTION,
    *needs.BROKER,
    *needs.OTHER_SERVICES,
)
PROJECTOR = COMPLIANCE
REACTIONS = (compliance(AccountSettings.model_fields["reply_wait_seconds"].default),)


class RequestPage(BaseModel):
    """Requests, newest first; `last_reference` leads to older ones; null on an empty page."""

    items: list[ComplianceRequest]
    last_reference: UUID | None
    size: PageSize


def create_app(
    desk: Desk, settings: AccountSettings, checks: Mapping[str, Check], now: Clock = utc_now
) -> FastAPI:
    """The service, given what it shows and where it takes requests to."""
    app = service_app("compliance", checks=checks, log=desk.bus)
    operators_only = [Depends(require_operator)]

    @command(
        app,
        "POST",
        "/block_agent/{agent_id}",
        name="block_agent",
        body=Reason,
        body_is_optional=True,
        answer=Asked,
        status=HTTPStatus.ACCEPTED,
        summary="Have an agent blocked",
        headers=LOCATION,
        requires=[require_admin],
    )
    async def block_agent(request: Command[Reason]) -> Answer:
        """The command is sent, again and again if need be; `GET /requests/{id}` tells the rest."""
        return await ask(request, Action.BLOCK)

    @command(
        app,
        "POST",
        "/unblock_agent/{agent_id}",
        name="unblock_agent",
        body=Reason,
        body_is_optional=True,
        answer=Asked,
        status=HTTPStatus.ACCEPTED,
        summary="Have an agent unblocked",
        headers=LOCATION,
        requires=[require_admin],
    )
    async def unblock_agent(request: Command[Reason]) -> Answer:
        """For one agent, commands are sent in the order in which they were asked for."""
        return await ask(request, Action.UNBLOCK)

    async def ask(request: Command[Reason], action: Action) -> Answer:
        agent_id = request.path["agent_id"]
        wanted = MakeRequest(
            request_id=request.id_of_creation(CATEGORY),
            agent_id=agent_id,
            action=action,
            reason=request.body.reason,
            requested_by=request.caller.name,
        )
        taken = await desk.ask(request.submission(COMPLIANCE_CASE, case_of(agent_id), wanted))
        where = {"Location": f"/requests/{taken.asked.id}"}
        return Answer(
            taken.asked,
            headers=where,
            positions=taken.outcome.positions,
            replayed=taken.replayed,
        )

    @app.get("/requests", dependencies=operators_only, responses=LISTS)
    async def get_requests(
        request: Request, last_reference: LastReference = None, size: Size = SIZE_DEFAULT
    ) -> RequestPage:
        """What was asked for and what became of it, newest first."""
        found = await desk.requests.page(request, last_reference, size)
        if found is None:
            raise NotFound("last_reference names no request")
        last = found[-1].id if found else None
        return RequestPage(items=found, last_reference=last, size=size)

    @app.get("/requests/{request_id}", dependencies=operators_only, responses=NAMES_ONE)
    async def get_request(request: Request, request_id: UUID) -> ComplianceRequest:
        """One request."""
        found = await desk.requests.find(request, request_id)
        if found is None:
            raise NotFound(f"Request {request_id} not found")
        return found

    @app.get("/agents", dependencies=operators_only, responses={**LISTS, **NAMES_ONE})
    async def get_agents(
        request: Request,
        search: Search = "",
        *,
        blocked: OnlyBlocked = False,
        last_reference: LastReference = None,
        size: Size = SIZE_DEFAULT,
    ) -> AgentPage:
        """By the beginning of a name, by e-mail address, or by the id of an agent or account."""
        return await desk.agents.page(
            request, search, blocked=blocked, reference=last_reference, size=size
        )

    add_page(app, desk, settings, now)
    return app


@asynccontextmanager
async def open_service(runtime: Runtime) -> AsyncIterator[FastAPI]:
    """The service with its projector and its reaction, in one process."""
    settings = runtime.settings_as(AccountSettings)
    require_admin_token(settings)
    bus, reaction = await runtime.command_bus(), compliance(settings.reply_wait_seconds)
    projecting, takeover = projector_team(settings, PROJECTOR), Takeover(settings, bus)
    async with (
        ConsistentReads.open(settings, PROJECTOR.name) as reads,
        Waiting.open(settings, reaction) as waiting,
        way_to_block_agent(runtime, settings, bus) as way,
    ):
        acting = ReactionTeam(settings, reaction, targets(way, bus), asyncio.get_running_loop())
        async with (
            projecting.at_work(runtime.seconds_to_stop),
            acting.at_work(runtime.seconds_to_stop),
            forgetting(settings).at_work(runtime.seconds_to_stop),
            takeover.at_work(),
        ):
            checks = {
                "read_model": reads.ready,
                "write_model": bus.ready,
                "projector": projecting.problem,
                "reaction": acting.problem,
                "requests": takeover.problem,
            }
            requests = Requests(reads, partial(details, waiting))
            desk = Desk(Agents(reads), requests, bus, lambda: way.away, takeover.require)
            yield create_app(desk, settings, checks)


def forgetting(settings: AccountSettings) -> Team:
    """Removes what was answered so long ago that nobody wants to see it; the log still has it."""
    stop = threading.Event()
    kept = Kept(
        table="compliance_asked",
        days=settings.compliance_requests_days,
        remove=FORGET_ANSWERED,
    )
    url = settings.required("read_model_projector_url")
    work = Forgetting(url, "compliance forgetting", [kept], stop)
    return Team([Worker("compliance forgetting", work.run, stop=stop)], [])
