"""Blocks and unblocks agents by sending commands, and shows what became of each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from uuid import UUID

from fastapi import Depends, FastAPI, Request
from pydantic import BaseModel

from codebase.engine.commands.fingerprint import Fingerprints
from codebase.engine.projections.projector import projector_team
from codebase.foundation import needs
from codebase.foundation.clock import Clock, utc_now
from codebase.model.refusals import NotFound
from codebase.services.compliance.agents import AgentPage, Agents
from codebase.services.compliance.carriers import require_admin_token
from codebase.services.compliance.desk import Desk
from codebase.services.compliance.dispatch import Dispatch
from codebase.services.compliance.form import Reason
from codebase.services.compliance.page import OnlyBlocked, Search, add_page
from codebase.services.compliance.projections import COMPLIANCE
from codebase.services.compliance.requests import (
    CATEGORY,
    Action,
    Asked,
    ComplianceRequest,
    NewRequest,
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
    *needs.FINGERPRINTS,
    *needs.BROKER,
    *needs.OTHER_SERVICES,
)
PROJECTOR = COMPLIANCE


class RequestPage(BaseModel):
    """Requests, newest first; `last_reference` leads to older ones; null on an empty page."""

    items: list[ComplianceRequest]
    last_reference: UUID | None
    size: PageSize


def create_app(
    desk: Desk, settings: AccountSettings, checks: Mapping[str, Check], now: Clock = utc_now
) -> FastAPI:
    """The service, given what it shows and where it takes requests to."""
    app = service_app("compliance", checks=checks, log=desk.agents.log)
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
        return await ask(request, "block")

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
        return await ask(request, "unblock")

    async def ask(request: Command[Reason], action: Action) -> Answer:
        asked, replayed = await desk.ask(
            NewRequest(
                id=request.id_of_creation(CATEGORY),
                agent_id=request.path["agent_id"],
                action=action,
                reason=request.body.reason,
                requested_by=request.caller.name,
                content=request.content,
            )
        )
        return Answer(asked, headers={"Location": f"/requests/{asked.id}"}, replayed=replayed)

    @app.get("/requests", dependencies=operators_only)
    async def get_requests(
        last_reference: LastReference = None, size: Size = SIZE_DEFAULT
    ) -> RequestPage:
        """What was asked for and what became of it, newest first."""
        if last_reference is not None and await desk.requests.find(last_reference) is None:
            raise NotFound("last_reference names no request")
        found = await desk.requests.page(last_reference, size)
        last = found[-1].id if found else None
        return RequestPage(items=list(found), last_reference=last, size=size)

    @app.get("/requests/{request_id}", dependencies=operators_only)
    async def get_request(request_id: UUID) -> ComplianceRequest:
        """One request."""
        found = await desk.requests.find(request_id)
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
    """The service with its projector and its sender, in one process."""
    settings = runtime.settings_as(AccountSettings)
    require_admin_token(settings)
    projecting, dispatch = projector_team(settings, PROJECTOR), Dispatch(settings)
    async with (
        ConsistentReads.open(settings, PROJECTOR.name) as reads,
        Requests.open(settings, Fingerprints.configured(settings)) as requests,
        projecting.at_work(runtime.seconds_to_stop),
        dispatch.team.at_work(runtime.seconds_to_stop),
    ):
        checks = {
            "read_model": reads.ready,
            "requests": requests.ready,
            "projector": projecting.problem,
            "sender": dispatch.team.problem,
        }
        yield create_app(Desk(Agents(reads), requests, dispatch), settings, checks)
