"""Shows accounts: `GET /accounts`, by name, `GET /accounts/{id}`, and the company report."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

from fastapi import FastAPI, Request, Response

from codebase.engine.projections.read_model import READ_MODEL
from codebase.foundation import needs
from codebase.model.accounts.account import account_not_found
from codebase.model.refusals import NotFound
from codebase.services.fetch_accounts.report import Reports
from codebase.views.accounts import accounts as account_view
from codebase.views.accounts.accounts import Account, AccountPage, CompanyReport
from codebase.views.accounts.pages_by_name import PAGE_ARGUMENTS
from codebase.web.consistent_reads import ConsistentReads
from codebase.web.openapi import ONLY_READS
from codebase.web.pages import SIZE_DEFAULT, LastReference, Size, as_json, page
from codebase.web.parked import LISTS, NAMES_ONE
from codebase.web.runtime import Runtime
from codebase.web.shell import caller_of, service_app

PORT = 9094
NEEDS = needs.QUERIES
SEVERAL_PROCESSES = True


def create_app(reads: ConsistentReads) -> FastAPI:
    """The service, given a read model."""
    app = service_app("fetch_accounts", checks={"read_model": reads.ready})
    pages = reads.query(account_view.PAGES, PAGE_ARGUMENTS, categories=account_view.CATEGORIES)
    accounts = reads.query(
        account_view.ACCOUNTS_BY_ID,
        account_view.ACCOUNT_ARGUMENTS,
        categories=(),
        asking_for_parked=account_view.ASKING_FOR_PARKED,
    )
    reports = Reports(reads)

    @app.get("/accounts", response_model=AccountPage, responses=LISTS)
    async def get_accounts(
        request: Request, last_reference: LastReference = None, size: Size = SIZE_DEFAULT
    ) -> Response:
        """The accounts after `last_reference`, the last item of the page before."""
        client = caller_of(request).only_client
        [(known, items, last)] = await reads.fetch(request, pages, client, last_reference, size)
        if not known:
            raise NotFound("last_reference names no account")
        return page(items, last, size)

    @app.get("/accounts/{account_id}", response_model=Account, responses=NAMES_ONE)
    async def get_account(request: Request, account_id: UUID) -> Response:
        """One account."""
        client = caller_of(request).only_client
        found = await reads.fetch(request, accounts, client, account_id)
        if not found:
            raise account_not_found(account_id)
        return as_json(found[0][0])

    @app.post(
        "/accounts/generate_company_report/{account_id}",
        response_model=CompanyReport,
        responses={**LISTS, **NAMES_ONE},
        openapi_extra=ONLY_READS,
    )
    async def generate_company_report(request: Request, account_id: UUID) -> Response:
        """One account with all its agents, read and sent page by page."""
        return await reports.of(request, account_id)

    return app


@asynccontextmanager
async def open_service(runtime: Runtime) -> AsyncIterator[FastAPI]:
    """The service with its connections."""
    async with ConsistentReads.open(runtime.settings, READ_MODEL) as reads:
        yield create_app(reads)
