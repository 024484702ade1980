"""The page: alerts and what became of them, silences that hold, and mails where these are files."""

from __future__ import annotations

from json import loads
from typing import Annotated
from uuid import UUID, uuid4

from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.responses import HTMLResponse, PlainTextResponse

from codebase.foundation.clock import Clock
from codebase.foundation.settings import Settings
from codebase.foundation.validation import adapter
from codebase.model.payments.alert import AlertState
from codebase.model.refusals import NotFound
from codebase.services.alertman.forms import SPANS
from codebase.services.alertman.mailbox import Mailbox
from codebase.views.payments.alerts import AlertPage
from codebase.views.payments.pages import PAYMENT_PAGES
from codebase.views.payments.silences import SilenceShown
from codebase.web.consistent_reads import ConsistentReads
from codebase.web.consistent_reads import Query as Reading
from codebase.web.fields import ABSENT_IF_EMPTY
from codebase.web.html import Pages, links_to
from codebase.web.pages import LastReference
from codebase.web.parked import LISTS, parked_streams
from codebase.web.shell import caller_of, require_operator

PAGES = Pages("codebase.services.alertman")
ALERTS_SHOWN = 25
SILENCES_SHOWN = 100
MAILS_SHOWN = 10

OnlyState = Annotated[
    AlertState | None, ABSENT_IF_EMPTY, Query(description="Only alerts that stand so.")
]


def add_page(
    app: FastAPI,
    reading: tuple[ConsistentReads, Reading, Reading],
    settings: Settings,
    *,
    mailbox: Mailbox | None,
    now: Clock,
) -> None:
    """Route `/`, and the mails that it leads to.

    Args:
        app: the service.
        reading: pages of alerts, and the silences that hold.
        settings: where other pages are.
        mailbox: None where mails are no files.
        now: tells which silences hold.
    """
    links = links_to(PAYMENT_PAGES, settings, "Alerts")
    reads, alert_pages, silences_that_hold = reading

    @app.get(
        "/",
        response_class=HTMLResponse,
        dependencies=[Depends(require_operator)],
        responses=LISTS,
    )
    async def get_page(
        request: Request, state: OnlyState = None, last_reference: LastReference = None
    ) -> Response:
        """Alerts newest first, silences that hold, and the last mails."""
        [(known, items, last)] = await reads.fetch(
            request, alert_pages, state and state.value, last_reference, ALERTS_SHOWN
        )
        if not known:
            raise NotFound("last_reference names no alert")
        moment, caller = now(), caller_of(request)
        [(silences,)] = await reads.fetch(request, silences_that_hold, moment, SILENCES_SHOWN)
        return PAGES.answer(
            "page.html",
            caller,
            may_ask=caller.is_admin,
            query=request.url.query,
            new_key=uuid4,
            spans=SPANS,
            links=links,
            made_at=moment,
            parked=parked_streams(request.scope),
            state=state,
            states=list(AlertState),
            alerts=AlertPage(items=loads(items or "[]"), last_reference=last, size=1).items,
            more=ALERTS_SHOWN,
            last=last,
            silences=adapter(list[SilenceShown]).validate_json(silences or "[]"),
            silences_shown=SILENCES_SHOWN,
            mails=None if mailbox is None else await mailbox.newest(MAILS_SHOWN),
        )

    @app.get(
        "/mails/{transaction_id}",
        response_class=PlainTextResponse,
        dependencies=[Depends(require_operator)],
        responses={404: {"description": "There is no such mail, or mails are no files."}},
    )
    async def get_mail(transaction_id: UUID) -> Response:
        """A mail as it would have gone out, by its first transaction."""
        if mailbox is None:
            raise NotFound("mails are no files where there is a mail server")
        return PlainTextResponse(
            await mailbox.read(transaction_id), headers={"Cache-Control": "no-store"}
        )
