"""The page: agents with a form for each, and what became of what was asked for."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID, uuid4

from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.responses import HTMLResponse

from codebase.foundation.clock import Clock
from codebase.foundation.settings import Settings
from codebase.services.compliance.desk import Desk, Reason
from codebase.views.accounts.compliance_requests import Action
from codebase.views.accounts.teams import TEAMS
from codebase.web.fields import ABSENT_IF_EMPTY, FromText, Text
from codebase.web.forms import PageForm, StandsFor, form
from codebase.web.html import Pages, links_to
from codebase.web.pages import LastReference
from codebase.web.parked import LISTS, NAMES_ONE, parked_streams
from codebase.web.schemas import example
from codebase.web.shell import Answer, Command, caller_of, require_admin, require_operator

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


class Form(Reason, PageForm):
    """A button that was pressed; `key` is the same however often that one was."""

    model_config = example(
        agent_id="3f493fce-6c0a-4e20-8c1c-15c8fca1b8fe",
        action="block",
        reason="The account is 60 days overdue",
    )

    reason: Annotated[Text | None, ABSENT_IF_EMPTY] = None
    agent_id: FromText[UUID]
    action: Action

    def stands_for(self) -> StandsFor:
        """The command that by JSON asks for the same."""
        return StandsFor(
            f"{self.action}_agent", Reason(reason=self.reason), {"agent_id": self.agent_id}
        )


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

    @form(app, desk.bus, Form, requires=[require_admin])
    async def post_form(request: Command[Reason]) -> Answer:
        """A button of the page; then the page again, as it was."""
        return await desk.ask(request)
