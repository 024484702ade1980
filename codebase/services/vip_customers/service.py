"""Follows VIP accounts: opened, closed, standing, and what they bring in, month by month."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.responses import HTMLResponse

from codebase.engine.projections.projector import projector_team
from codebase.foundation import needs
from codebase.foundation.clock import Clock, utc_now
from codebase.foundation.settings import Settings
from codebase.model.accounts.usage import Month
from codebase.services.vip_customers import queries
from codebase.services.vip_customers.months import (
    MonthOfVips,
    Months,
    charts_of,
    month_of,
    turnover_by_currency,
)
from codebase.services.vip_customers.projections import VIP_CUSTOMERS
from codebase.views.accounts.months import ChosenMonth, chosen_month
from codebase.views.accounts.teams import TEAMS
from codebase.views.accounts.usage_intervals import MONTH_ARGUMENTS
from codebase.web.consistent_reads import ConsistentReads
from codebase.web.html import Pages, links_to
from codebase.web.parked import LISTS, parked_streams
from codebase.web.runtime import Runtime
from codebase.web.shell import Check, caller_of, require_operator, service_app

PORT = 8073
NEEDS = (*needs.PROJECTOR, *needs.QUERIES, *needs.BROKER)
PROJECTOR = VIP_CUSTOMERS
PAGES = Pages("codebase.services.vip_customers")

Count = Annotated[int, Query(ge=1, le=36, description="how many months, up to that one")]


def create_app(
    reads: ConsistentReads, settings: Settings, checks: Mapping[str, Check], now: Clock = utc_now
) -> FastAPI:
    """The service, given a store that somebody keeps up to date."""
    app = service_app("vip_customers", checks=checks)
    listing: dict[str, Any] = {
        "dependencies": [Depends(require_operator)],
        "responses": LISTS,
    }
    links = links_to(TEAMS, settings, "VIP customers")
    accounts = reads.query(queries.ACCOUNTS, MONTH_ARGUMENTS)
    use = reads.query(queries.USE, MONTH_ARGUMENTS)

    async def one_month(request: Request, month: Month) -> MonthOfVips:
        moment = now()
        return month_of(
            month,
            moment,
            await reads.fetch(request, accounts, month.begin, month.end),
            await reads.fetch(request, use, month.begin, month.up_to(moment)),
        )

    async def months_up_to(request: Request, last: Month, count: int) -> list[MonthOfVips]:
        asked = (one_month(request, last.plus(back)) for back in range(1 - count, 1))
        return list(await asyncio.gather(*asked))

    @app.get("/months", **listing)
    async def get_months(request: Request, month: ChosenMonth = None, count: Count = 12) -> Months:
        """Openings, closings, standing and turnover by region, month by month."""
        return Months(months=await months_up_to(request, chosen_month(month, now()), count))

    @app.get("/", response_class=HTMLResponse, **listing)
    async def get_page(request: Request, month: ChosenMonth = None, count: Count = 6) -> Response:
        """The same, to be looked at."""
        last = chosen_month(month, now())
        months = await months_up_to(request, last, count)
        return PAGES.answer(
            "page.html",
            caller_of(request),
            links=links,
            made_at=now(),
            parked=parked_streams(request.scope),
            month=last,
            months=months,
            turnover=turnover_by_currency(months[-1]),
            charts=charts_of(months),
        )

    return app


@asynccontextmanager
async def open_service(runtime: Runtime) -> AsyncIterator[FastAPI]:
    """The service with its projector, in one process."""
    settings = runtime.settings
    team = projector_team(settings, PROJECTOR)
    async with (
        ConsistentReads.open(settings, PROJECTOR.name) as reads,
        team.at_work(runtime.seconds_to_stop),
    ):
        checks = {"read_model": reads.ready, "projector": team.problem}
        yield create_app(reads, settings, checks)
