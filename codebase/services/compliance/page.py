"""The page: agents with a form for each, and what became of what was asked for."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated
from uuid import UUID, uuid4

from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from codebase.foundation.clock import Clock
from codebase.foundation.settings import Settings
from codebase.services.compliance.desk import Desk
from codebase.services.compliance.form import FORM_DOCUMENTATION, read_form
from codebase.views.accounts.teams import TEAMS
from codebase.web.commands import note_written
from codebase.web.consistency_token import own, taken_from
from codebase.web.exchange import exchange_of
from codebase.web.html import Pages, links_to
from codebase.web.openapi_headers import references
from codebase.web.pages import LastReference
from codebase.web.parked import LISTS, NAMES_ONE, parked_streams
from codebase.web.shell import LOCATION, caller_of, require_admin, require_operator

PAGES = Pages("codebase.services.compliance")
AGENTS_SHOWN = 25
REQUESTS_SHOWN = 20

Search = Annotated[
    str,
    Query(
        max_length=254,
        description="The beginning of a name, an e-mail address, or the id of an agent or account.",
        examples=["Bo"],
    ),
]
OnlyBlocked = Annotated[bool, Query(description="Only agents who are blocked.")]
OlderThan = Annotated[
    UUID | None, Query(description="The last request of the page before; without it, the newest.")
]


def add_page(app: FastAPI, desk: Desk, settings: Settings, now: Clock) -> None:
    """Route `/`."""
    links = links_to(TEAMS, settings, "Compliance")

    @app.get(
        "/",
        response_class=HTMLResponse,
        dependencies=[Depends(require_operator)],
        responses={**LISTS, **NAMES_ONE},
    )
    async def get_page(
        request: Request,
        search: Search = "",
        *,
        blocked: OnlyBlocked = False,
        last_reference: LastReference = None,
        older_than: OlderThan = None,
    ) -> Response:
        """Agents with a form for each, and what was asked for, newest first."""
        caller = caller_of(request)
        found = await desk.agents.page(
            request, search, blocked=blocked, reference=last_reference, size=AGENTS_SHOWN
        )
        recent = await desk.requests.page(request, older_than, REQUESTS_SHOWN) or []
        unanswered = await desk.requests.open(request, [agent.id for agent in found.items])
        return PAGES.answer(
            "page.html",
            caller,
            may_ask=caller.is_admin,
            links=links,
            made_at=now(),
            parked=parked_streams(request.scope),
            search=search,
            blocked=blocked,
            query=request.url.query,
            agents=found,
            agents_shown=AGENTS_SHOWN,
            asked=unanswered.actions,
            requests=recent,
            requests_shown=REQUESTS_SHOWN,
            open=unanswered,
            away=desk.away(),
            new_key=uuid4,
        )

    @app.post(
        "/",
        dependencies=[Depends(require_admin)],
        status_code=HTTPStatus.SEE_OTHER,
        response_class=RedirectResponse,
        responses={303: {"headers": {**LOCATION, **references("Set-Cookie")}}},
        openapi_extra=FORM_DOCUMENTATION,
    )
    async def post_form(request: Request) -> Response:
        """A button of the page; then the page again, as it was."""
        form, exchange = await read_form(request), exchange_of(request.scope)
        sent = taken_from(exchange, request.scope["headers"], len(desk.bus.extent.positions))
        seen = await own(desk.bus, sent)
        taken = await desk.ask(form.submission(exchange.caller, exchange.request_id))
        note_written(exchange, desk.bus, seen, taken.outcome.positions)
        return RedirectResponse(f"/?{request.url.query}", HTTPStatus.SEE_OTHER)
