"""Shows agents: of an account, of a client or all, by name; and one, by id or e-mail address."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated
from uuid import UUID

from fastapi import FastAPI, Path, Request, Response

from codebase.engine.projections.read_model import READ_MODEL
from codebase.foundation import needs
from codebase.model.accounts.account import account_not_found
from codebase.model.accounts.agent import agent_not_found
from codebase.model.refusals import NotFound
from codebase.views.accounts import agents as agent_view
from codebase.views.accounts.agents import Agent, AgentPage
from codebase.views.accounts.pages_by_name import PAGE_ARGUMENTS
from codebase.web.consistent_reads import ConsistentReads
from codebase.web.fields import Email
from codebase.web.openapi import ONLY_READS
from codebase.web.pages import SIZE_DEFAULT, LastReference, Size, as_json, page
from codebase.web.parked import LISTS, NAMES_ONE
from codebase.web.runtime import Runtime
from codebase.web.shell import caller_of, service_app

PORT = 9095
NEEDS = needs.QUERIES
SEVERAL_PROCESSES = True
UNKNOWN_REFERENCE = "last_reference names no agent"


def create_app(reads: ConsistentReads) -> FastAPI:
    """The service, given a read model."""
    app = service_app("fetch_agents", checks={"read_model": reads.ready})
    pages = reads.query(agent_view.PAGES, PAGE_ARGUMENTS, categories=agent_view.CATEGORIES)
    of_account = reads.query(
        agent_view.PAGES_OF_ACCOUNT,
        agent_view.PAGE_OF_ACCOUNT_ARGUMENTS,
        categories=agent_view.CATEGORIES,
        asking_for_parked=agent_view.ASKING_FOR_PARKED_ACCOUNT,
    )
    by_id = reads.query(
        agent_view.AGENTS_BY_ID,
        agent_view.AGENT_ARGUMENTS,
        categories=(),
        asking_for_parked=agent_view.ASKING_FOR_PARKED,
    )
    by_email = reads.query(
        agent_view.AGENTS_BY_EMAIL,
        agent_view.EMAIL_ARGUMENTS,
        categories=agent_view.CATEGORIES,
        asking_for_parked=agent_view.ASKING_FOR_PARKED_BY_EMAIL,
    )

    @app.get("/agents", response_model=AgentPage, responses=LISTS)
    async def get_agents(
        request: Request, last_reference: LastReference = None, size: Size = SIZE_DEFAULT
    ) -> Response:
        """All agents after `last_reference`, the last item of the page before."""
        client = caller_of(request).only_client
        [(known, items, last)] = await reads.fetch(request, pages, client, last_reference, size)
        if not known:
            raise NotFound(UNKNOWN_REFERENCE)
        return page(items, last, size)

    @app.get(
        "/accounts/{account_id}/agents",
        response_model=AgentPage,
        responses={**LISTS, **NAMES_ONE},
    )
    async def get_agents_of_account(
        request: Request,
        account_id: UUID,
        last_reference: LastReference = None,
        size: Size = SIZE_DEFAULT,
    ) -> Response:
        """An account's agents after `last_reference`, the last item of the page before."""
        client = caller_of(request).only_client
        found = await reads.fetch(request, of_account, client, account_id, last_reference, size)
        if not found:
            raise account_not_found(account_id)
        [(known, items, last)] = found
        if not known:
            raise NotFound(UNKNOWN_REFERENCE)
        return page(items, last, size)

    @app.get("/accounts/{account_id}/agents/{agent_id}", response_model=Agent, responses=NAMES_ONE)
    async def get_agent(request: Request, account_id: UUID, agent_id: UUID) -> Response:
        """One agent of an account."""
        client = caller_of(request).only_client
        found = await reads.fetch(request, by_id, client, account_id, agent_id)
        if not found:
            raise agent_not_found(agent_id)
        return as_json(found[0][0])

    # `:path`, because an address may have a slash, which is decoded before a route is looked for.
    @app.post(
        "/agents/find_agent/{email:path}",
        response_model=Agent,
        responses={**LISTS, **NAMES_ONE},
        openapi_extra=ONLY_READS,
    )
    async def find_agent(
        request: Request, email: Annotated[Email, Path(description="The whole address.")]
    ) -> Response:
        """The agent that has an e-mail address, whatever the letter case; not for operators."""
        caller = caller_of(request)
        caller.require_to_see_personal_values()
        found = await reads.fetch(request, by_email, caller.only_client, email)
        if not found:
            raise NotFound("no agent has this e-mail address")
        return as_json(found[0][0])

    return app


@asynccontextmanager
async def open_service(runtime: Runtime) -> AsyncIterator[FastAPI]:
    """The service with its connections."""
    async with ConsistentReads.open(runtime.settings, READ_MODEL) as reads:
        yield create_app(reads)
