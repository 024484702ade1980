"""Follows accounts, agents and prices, and charges for use: `GET /invoices/{account_id}`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.responses import HTMLResponse
from pydantic import BaseModel

from codebase.engine.projections.projector import projector_team
from codebase.foundation import needs
from codebase.foundation.clock import Clock, utc_now
from codebase.model.accounts.account import Region
from codebase.services.billing.charts import charts_of, months_up_to
from codebase.services.billing.invoices import Invoice, Invoices, Standing
from codebase.services.billing.kept_months import MonthKeeper
from codebase.services.billing.ledger import Ledger
from codebase.services.billing.one_per_store import refuse_beside_another
from codebase.services.billing.prices import LastPrice, PricePage
from codebase.services.billing.projections import billing
from codebase.views.accounts.months import ChosenMonth
from codebase.views.accounts.settings import AccountSettings
from codebase.views.accounts.teams import TEAMS
from codebase.web.consistent_reads import ConsistentReads
from codebase.web.html import Pages, links_to
from codebase.web.pages import SIZE_DEFAULT, Size
from codebase.web.parked import LISTS, NAMES_ONE, Responses, parked_streams
from codebase.web.runtime import Runtime
from codebase.web.shell import Check, caller_of, require_operator, service_app

PORT = 8070
NEEDS = (*needs.PROJECTOR, *needs.QUERIES, *needs.BROKER)
PROJECTORS = tuple(billing(region) for region in (None, *Region))
PAGES = Pages("codebase.services.billing")
INVOICES_SHOWN = 50

ONE_ACCOUNT: Responses = {
    404: {"description": "No such account, or it is another client's."},
    **LISTS,
    **NAMES_ONE,
}


class Regions(BaseModel):
    """Every region that this billing looks after."""

    regions: list[Standing]


def create_app(
    reads: ConsistentReads,
    settings: AccountSettings,
    checks: Mapping[str, Check],
    now: Clock = utc_now,
) -> FastAPI:
    """The service, given a store that somebody keeps up to date."""
    app = service_app("billing", checks=checks)
    listing: dict[str, Any] = {
        "dependencies": [Depends(require_operator)],
        "responses": LISTS,
    }
    links = links_to(TEAMS, settings, "Billing")
    ledger = Ledger(
        reads,
        [settings.billing_region] if settings.billing_region else list(Region),
        MonthKeeper(settings, billing(settings.billing_region).name),
        now,
    )

    @app.get("/regions", **listing)
    async def get_regions(request: Request) -> Regions:
        """Accounts and agents of every region, at the moment."""
        return Regions(regions=await ledger.standings(request))

    @app.get("/prices", response_model=PricePage, **listing)
    async def get_prices(
        request: Request, last_reference: LastPrice = None, size: Size = SIZE_DEFAULT
    ) -> Response:
        """Prices of use that hold, are to come, or have been, the latest set first."""
        return as_json(await ledger.prices(request, last_reference, size))

    @app.get("/invoices", response_model=Invoices, **listing)
    async def get_invoices(
        request: Request,
        month: ChosenMonth = None,
        size: Annotated[
            int, Query(ge=1, le=1000, description="How many invoices, at most.")
        ] = INVOICES_SHOWN,
    ) -> Response:
        """The largest invoices of a month, without their lines."""
        return as_json(await ledger.invoices(request, ledger.month(month), size))

    @app.get("/invoices/{account_id}", response_model=Invoice, responses=ONE_ACCOUNT)
    async def get_invoice(
        request: Request, account_id: UUID, month: ChosenMonth = None
    ) -> Response:
        """What an account's agents cost in a month, line by line; also of a closed account."""
        return as_json(await ledger.invoice(request, account_id, ledger.month(month)))

    @app.get("/invoices/{account_id}/page", response_class=HTMLResponse, responses=ONE_ACCOUNT)
    async def get_invoice_page(
        request: Request, account_id: UUID, month: ChosenMonth = None
    ) -> Response:
        """The same, to be read and printed."""
        invoice = await ledger.invoice(request, account_id, ledger.month(month))
        return PAGES.answer(
            "invoice.html",
            caller_of(request),
            links=links,
            made_at=now(),
            parked=parked_streams(request.scope),
            invoice=invoice,
        )

    @app.get("/", response_class=HTMLResponse, **listing)
    async def get_page(request: Request, month: ChosenMonth = None) -> Response:
        """Regions, the month's largest invoices, and what the months before came to."""
        shown = ledger.month(month)
        months = months_up_to(shown)
        regions, invoices, billed = await asyncio.gather(
            ledger.standings(request),
            ledger.invoices(request, shown, INVOICES_SHOWN),
            ledger.billed(request, months),
        )
        return PAGES.answer(
            "page.html",
            caller_of(request),
            links=links,
            made_at=now(),
            parked=parked_streams(request.scope),
            region=settings.billing_region,
            month=shown,
            regions=regions,
            invoices=invoices,
            billed=billed[-1],
            charts=charts_of(months, billed, ledger.regions),
        )

    return app


def as_json(answer: BaseModel) -> Response:
    """An answer without the detour through FastAPI's serialisation."""
    return Response(answer.model_dump_json(), media_type="application/json")


@asynccontextmanager
async def open_service(runtime: Runtime) -> AsyncIterator[FastAPI]:
    """The service with its projector, in one process."""
    settings = runtime.settings_as(AccountSettings)
    projector = billing(settings.billing_region)
    await refuse_beside_another(settings, projector)
    team = projector_team(settings, projector)
    async with (
        ConsistentReads.open(settings, projector.name) as reads,
        team.at_work(runtime.seconds_to_stop),
    ):
        checks = {"read_model": reads.ready, "projector": team.problem}
        yield create_app(reads, settings, checks)
