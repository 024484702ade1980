"""Takes payments by card: `POST /transact`; has them looked at and paid; shows and settles them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from uuid import UUID

from fastapi import FastAPI, Request, Response

from codebase.engine.commands.bus import CommandBus
from codebase.engine.commands.submission import Outcome
from codebase.engine.projections.read_model import READ_MODEL
from codebase.foundation import needs
from codebase.foundation.clock import Clock, utc_now
from codebase.foundation.settings import Settings
from codebase.model.payments.transaction import TRANSACTION, SettleTransaction, Status
from codebase.model.refusals import NotFound
from codebase.services.transact import driver
from codebase.services.transact.at_work import driving
from codebase.services.transact.bodies import (
    NotPaid,
    PendingTransaction,
    PostSettlement,
    PostTransaction,
    TransactionAnswer,
    answer_to,
    told,
)
from codebase.services.transact.fields import OnlyStatus
from codebase.services.transact.figures import count_end, counting
from codebase.services.transact.page import add_pages
from codebase.services.transact.steps import Steps
from codebase.services.transact.taking import NAME, Taking
from codebase.services.transact.waiting import Waiting
from codebase.views.payments import transactions
from codebase.views.payments.fields import key_without_card
from codebase.views.payments.settings import PaymentSettings, card_reducer
from codebase.views.payments.transactions import TransactionDetails, TransactionPage
from codebase.web.command_routes import WithHeaders
from codebase.web.consistent_reads import ConsistentReads
from codebase.web.openapi_headers import references
from codebase.web.pages import LastReference, Size, as_json, page
from codebase.web.parked import LISTS, NAMES_ONE
from codebase.web.runtime import Runtime
from codebase.web.shell import (
    LOCATION,
    Answer,
    Check,
    Command,
    caller_of,
    command,
    require_admin,
    service_app,
)

PORT = 9001
NEEDS = (
    *needs.COMMANDS,
    *needs.QUERIES,
    *needs.REACTION,
    *needs.BROKER,
    *needs.CARDS,
    *needs.OTHER_SERVICES,
    *needs.PAYMENT_PROVIDER,
)
REACTIONS = (driver.TRANSACTIONS, driver.TRANSACTION_AGES)
SIZE_DEFAULT = 50

OF_WHAT_WAS_WRITTEN = references("Location", "Consistency-Token", "Idempotent-Replayed")
"""The headers of a business answer that is a problem, and no refusal."""


def create_app(
    bus: CommandBus,
    reads: ConsistentReads,
    settings: Settings,
    taking: Taking,
    checks: Mapping[str, Check],
    *,
    now: Clock = utc_now,
) -> FastAPI:
    """The service, given what it writes to, what it reads from, and who takes payments."""
    app = service_app("transact", checks=checks, log=bus)
    pages = reads.query(
        transactions.pages(), transactions.PAGE_ARGUMENTS, categories=transactions.CATEGORIES
    )
    by_id = reads.query(
        transactions.by_id(),
        transactions.TRANSACTION_ARGUMENTS,
        categories=(),
        asking_for_parked=transactions.ASKING_FOR_PARKED,
    )

    @command(
        app,
        "POST",
        "/transact",
        name=NAME,
        body=PostTransaction,
        answer=TransactionAnswer,
        summary="Pay for an order by card",
        problems={
            202: WithHeaders(model=PendingTransaction, headers=LOCATION),
            402: WithHeaders(model=NotPaid, headers=OF_WHAT_WAS_WRITTEN),
        },
        headers=LOCATION,
    )
    async def post_transaction(request: Command[PostTransaction]) -> Answer:
        """Answers how it has ended, or, where that takes too long, that it goes on by itself.

        Without an `Idempotency-Key` each request is a payment of its own. With one, a repeat is
        answered as the transaction stands by then.
        """
        return answer_to(await taking.take(request), request.request_id)

    @command(
        app,
        "POST",
        "/transactions/{transaction_id}/settle",
        name="settle_transaction",
        body=PostSettlement,
        answer=TransactionAnswer,
        summary="Settle a payment that the provider says nothing of",
        problems={404: "There is no such transaction.", 409: "It is not PAYMENT_INITIATED."},
        requires=[require_admin, key_without_card],
    )
    async def settle(request: Command[PostSettlement]) -> Answer:
        """For administrators who know from elsewhere whether the money has moved."""
        body, transaction_id = request.body, request.path["transaction_id"]
        wanted = SettleTransaction(
            is_paid=body.outcome == Status.PAYMENT_COMPLETE.value,
            reason=body.reason,
            by=request.caller.name,
        )
        outcome = await bus.execute(request.submission(TRANSACTION, transaction_id, wanted))
        count_end(outcome)
        return Answer.to(outcome, told("Transaction Settled", transaction_id, body.outcome))

    @app.get("/transactions", response_model=TransactionPage, responses=LISTS)
    async def get_transactions(
        request: Request,
        status: OnlyStatus = None,
        last_reference: LastReference = None,
        size: Size = SIZE_DEFAULT,
    ) -> Response:
        """The transactions before `last_reference`, the last item of the page before."""
        client = caller_of(request).only_client
        [(known, items, last)] = await reads.fetch(
            request, pages, client, status, last_reference, size
        )
        if not known:
            raise NotFound("last_reference names no transaction")
        return page(items, last, size)

    @app.get(
        "/transactions/{transaction_id}", response_model=TransactionDetails, responses=NAMES_ONE
    )
    async def get_transaction(request: Request, transaction_id: UUID) -> Response:
        """One transaction, with every step that it has taken, and why."""
        found = await reads.fetch(request, by_id, caller_of(request).only_client, transaction_id)
        if not found:
            raise NotFound("there is no such transaction")
        return as_json(found[0][0])

    add_pages(app, reads, by_id, settings, now)
    return app


@asynccontextmanager
async def open_service(runtime: Runtime) -> AsyncIterator[FastAPI]:
    """The service with its reactions, in one process."""
    settings = runtime.settings_as(PaymentSettings)
    waiting, bus = Waiting(), await runtime.command_bus()

    def hear(outcome: Outcome) -> None:
        count_end(outcome)
        waiting.hear(outcome)

    steps = Steps(bus, hear)
    taking = Taking(
        bus, card_reducer(settings), waiting, max_age_seconds=settings.transaction_max_age_s
    )
    async with (
        ConsistentReads.open(settings, READ_MODEL) as reads,
        driving(runtime, settings, bus, steps, hear) as driven,
        counting(settings),
    ):
        checks = {"write_model": bus.ready, "read_model": reads.ready, **driven}
        yield create_app(bus, reads, settings, taking, checks)
