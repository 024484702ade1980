"""Blocks and unblocks agents by sending commands, and shows what became of each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from http import HTTPStatus
from uuid import UUID

from fastapi import Depends, FastAPI, Request
from pydantic import BaseModel

from codebase.engine.projections.projection import Projector
from codebase.engine.projections.projector import projector_team
from codebase.engine.reactions.bus_target import BusTarget
from codebase.engine.reactions.target import Target
from codebase.engine.reactions.team import ReactionTeam
from codebase.engine.reactions.waiting import Waiting
from codebase.foundation import needs
from codebase.foundation.clock import Clock, utc_now
from codebase.foundation.forgetting import Kept
from codebase.model.refusals import NotFound
from codebase.services.compliance.desk import BLOCK, UNBLOCK, Desk, Reason
from codebase.services.compliance.page import OnlyBlocked, Search, add_page
from codebase.services.compliance.reaction import BLOCK_AGENT, CASE, compliance
from codebase.services.compliance.takeover import Takeover
from codebase.services.compliance.targets import change, details, hear, note
from codebase.views.accounts.compliance_agents import COMPLIANCE_AGENTS, AgentPage, Agents
from codebase.views.accounts.compliance_requests import (
    COMPLIANCE_REQUESTS,
    FORGET_ANSWERED,
    Asked,
    ComplianceRequest,
    Requests,
)
from codebase.views.accounts.settings import AccountSettings
from codebase.web.consistent_reads import ConsistentReads
from codebase.web.other_services import require_admin_token, way_to
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
PROJECTOR = Projector(name="compliance", projections=(COMPLIANCE_AGENTS, COMPLIANCE_REQUESTS))
"""What is remembered of the log: every agent, and every request."""
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

    asks = partial(
        command,
        app,
        "POST",
        body=Reason,
        body_is_optional=True,
        answer=Asked,
        status=HTTPStatus.ACCEPTED,
        headers=LOCATION,
        requires=[require_admin],
    )

    @asks("/block_agent/{agent_id}", name=BLOCK, summary="Have an agent blocked")
    async def block_agent(request: Command[Reason]) -> Answer:
        """The command is sent, again and again if need be; `GET /requests/{id}` tells the rest."""
        return await desk.ask(request)

    @asks("/unblock_agent/{agent_id}", name=UNBLOCK, summary="Have an agent unblocked")
    async def unblock_agent(request: Command[Reason]) -> Answer:
        """For one agent, commands are sent in the order in which they were asked for."""
        return await desk.ask(request)

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
    require_admin_token(settings, "compliance", "to block the agents of every client")
    bus, reaction = await runtime.command_bus(), compliance(settings.reply_wait_seconds)
    # What was answered so long ago nobody wants to see; the log still has it.
    days = settings.compliance_requests_days
    forgets = [Kept(table="compliance_asked", days=days, remove=FORGET_ANSWERED)]
    projecting, takeover = projector_team(settings, PROJECTOR, forgets), Takeover(settings, bus)
    block_agent = way_to(
        BLOCK_AGENT,
        settings.block_agent_url,
        runtime,
        change,
        sender=reaction.name,
        hear=partial(hear, bus),
    )
    async with (
        ConsistentReads.open(settings, PROJECTOR.name) as reads,
        Waiting.open(settings, reaction) as waiting,
        block_agent as way,
    ):
        targets: dict[str, Target] = {BLOCK_AGENT: way, CASE: BusTarget(bus, reaction.name, note)}
        acting = ReactionTeam(settings, reaction, targets)
        async with (
            projecting.at_work(runtime.seconds_to_stop),
            acting.at_work(runtime.seconds_to_stop),
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
