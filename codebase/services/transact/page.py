"""The pages: how transactions stand, what they came to, the newest, and the way of each of them."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Annotated, NamedTuple
from uuid import UUID

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse

from codebase.foundation.clock import Clock
from codebase.foundation.settings import Settings
from codebase.foundation.validation import adapter
from codebase.model.payments.transaction import Status
from codebase.model.refusals import NotFound
from codebase.services.transact.fields import OnlyStatus
from codebase.services.transact.flow import KINDS, flow_of, name_of
from codebase.services.transact.last_hours import LastHours, OnTheirWay, last_hours
from codebase.views.payments import transaction_day, transactions
from codebase.views.payments.pages import PAYMENT_PAGES
from codebase.views.payments.transaction_day import Counted, ListedTransaction, Open
from codebase.views.payments.transactions import TransactionDetails
from codebase.web.consistent_reads import ConsistentReads, Query
from codebase.web.fields import ABSENT_IF_EMPTY
from codebase.web.html import Pages, links_to
from codebase.web.pages import LastReference
from codebase.web.parked import LISTS, NAMES_ONE, parked_streams
from codebase.web.shell import caller_of

PAGES = Pages("codebase.services.transact")
ChosenStatus = Annotated[OnlyStatus, ABSENT_IF_EMPTY]
SHOWN = 25


class Newest(NamedTuple):
    """A page of transactions, and which was its last."""

    items: list[ListedTransaction]
    last: UUID | None


class Board:
    """What the page shows, read for whoever asks: a client's own, or everybody's."""

    def __init__(self, reads: ConsistentReads) -> None:
        self._reads = reads
        self._day = self._query(transaction_day.DAY, transaction_day.DAY_ARGUMENTS)
        self._open = self._query(transaction_day.OPEN, transaction_day.OPEN_ARGUMENTS)
        self._newest = self._query(transaction_day.newest(), transactions.PAGE_ARGUMENTS)

    def _query(self, query: str, arguments: tuple[str, ...]) -> Query:
        return self._reads.query(query, arguments, categories=transactions.CATEGORIES)

    async def last_hours(self, request: Request, now: datetime) -> LastHours:
        """What was requested in the last hours."""
        since, client = transaction_day.first_hour(now), caller_of(request).only_client
        rows = await self._reads.fetch(
            request, self._day, client, since, transaction_day.COUNTED_MAX
        )
        return last_hours([Counted(*row) for row in rows], since)

    async def on_their_way(self, request: Request) -> OnTheirWay:
        """What has not ended, however old it is."""
        client = caller_of(request).only_client
        rows = await self._reads.fetch(request, self._open, client, transaction_day.OPEN_MAX)
        return OnTheirWay.of([Open(*row) for row in rows])

    async def newest(
        self, request: Request, status: str | None, last_reference: UUID | None
    ) -> Newest:
        """A page of transactions.

        Raises:
            NotFound: the one before it is not known.
        """
        client = caller_of(request).only_client
        [(known, items, last)] = await self._reads.fetch(
            request, self._newest, client, status, last_reference, SHOWN
        )
        if not known:
            raise NotFound("last_reference names no transaction")
        return Newest(adapter(list[ListedTransaction]).validate_json(items or "[]"), last)


def add_pages(
    app: FastAPI, reads: ConsistentReads, by_id: Query, settings: Settings, now: Clock
) -> None:
    """Route `/`, and the page of each transaction.

    Args:
        app: the service.
        reads: of the read model.
        by_id: one transaction.
        settings: where other pages are.
        now: which hours are the last ones.
    """
    links = links_to(PAYMENT_PAGES, settings, "Transactions")
    board = Board(reads)

    @app.get("/", response_class=HTMLResponse, responses=LISTS)
    async def get_page(
        request: Request, status: ChosenStatus = None, last_reference: LastReference = None
    ) -> Response:
        """How transactions of the last hours stand, what they came to, and the newest of all."""
        moment = now()
        hours, on_their_way, newest = await asyncio.gather(
            board.last_hours(request, moment),
            board.on_their_way(request),
            board.newest(request, status, last_reference),
        )
        return PAGES.answer(
            "page.html",
            caller_of(request),
            links=links,
            made_at=moment,
            parked=parked_streams(request.scope),
            hours=hours,
            hours_before=transaction_day.HOURS - 1,
            flow=flow_of(hours.by_status),
            on_their_way=on_their_way,
            only=status,
            statuses=list(Status),
            transactions=newest.items,
            last=newest.last,
            more=len(newest.items) == SHOWN,
            kinds=KINDS,
            name_of=name_of,
        )

    @app.get(
        "/transactions/{transaction_id}/page", response_class=HTMLResponse, responses=NAMES_ONE
    )
    async def get_transaction_page(request: Request, transaction_id: UUID) -> Response:
        """One transaction, with every step that it has taken, and why, to be read."""
        found = await reads.fetch(request, by_id, caller_of(request).only_client, transaction_id)
        if not found:
            raise NotFound("there is no such transaction")
        return PAGES.answer(
            "transaction.html",
            caller_of(request),
            links=links,
            made_at=now(),
            one=adapter(TransactionDetails).validate_json(found[0][0]),
            kinds=KINDS,
            name_of=name_of,
        )
