"""Says whether a transaction is fraud, and why: `POST /service/fraudpolice/api/v1/transaction/`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime

from fastapi import FastAPI

from codebase.engine.commands.bus import CommandBus
from codebase.foundation import needs
from codebase.foundation.clock import utc_now
from codebase.foundation.errors import invalid
from codebase.model.payments.cards import CardNumber, CardReducer
from codebase.services.fraud_police.answers import Assessment
from codebase.services.fraud_police.bodies import PostTransaction
from codebase.services.fraud_police.decisions import add_decisions
from codebase.services.fraud_police.listings import add_listings
from codebase.services.fraud_police.police import Police, Shown
from codebase.services.fraud_police.projections import FRAUD_POLICE
from codebase.services.fraud_police.rule_watch import RuleWatch
from codebase.services.fraud_police.rules import add_rules
from codebase.services.fraud_police.shadow import police_team
from codebase.views.payments.fields import refuse_elsewhere, without_card
from codebase.views.payments.fraud_rules_file import read_rules_file
from codebase.views.payments.pages import PAYMENT_PAGES
from codebase.views.payments.settings import PaymentSettings, card_reducer
from codebase.web.auth import forbidden
from codebase.web.consistent_reads import ConsistentReads
from codebase.web.fields import read_text
from codebase.web.html import Link, links_to
from codebase.web.runtime import Runtime
from codebase.web.shell import Answer, Check, Command, command, service_app

PORT = 8090
NEEDS = (
    *needs.COMMANDS,
    *needs.PROJECTOR,
    *needs.QUERIES,
    *needs.BROKER,
    *needs.CARDS,
)
PROJECTOR = FRAUD_POLICE


def create_app(
    bus: CommandBus,
    reads: ConsistentReads,
    police: Police,
    reducer: CardReducer,
    checks: Mapping[str, Check],
    *,
    links: Sequence[Link] = (),
) -> FastAPI:
    """The service, given a store that somebody keeps up to date; `links` lead to other pages."""
    app = service_app("fraud_police", checks=checks, log=bus)
    add_rules(app, reads, police, links)
    add_decisions(app, bus, reads)
    add_listings(app, bus, reads, reducer, police.now)

    @command(
        app,
        "POST",
        "/service/fraudpolice/api/v1/transaction/",
        name="assess_transaction",
        body=PostTransaction,
        answer=Assessment,
        summary="Judge a transaction",
        problems={
            403: "`userID` is another client's or `requested_at` is set, and the caller is no "
            "administrator."
        },
    )
    async def assess_transaction(request: Command[PostTransaction]) -> Answer:
        """Fraud or not, with a score and reasons; the same question has the same answer.

        That is the same transaction, asked by the same caller: what a client has been told before
        its payment does not answer `transact`.

        An administrator may say in header `X-User-Id` whose it is, which counts for more than
        `userID`.
        """
        if isinstance(request.body.payment.card, CardNumber):
            # What it is called is kept as it was sent, and what comes after is called so as well.
            name = {"transactionID": str(request.body.transaction_id)}
            refuse_elsewhere(request.body.payment.card, name)
        outcome = await police.assess(
            Shown(
                caller=request.caller.name,
                transaction_id=str(request.body.transaction_id),
                payment=request.body.payment_of(client_of(request), reducer),
                requested_at=requested_at_of(request),
                request_id=request.request_id,
                traceparent=request.traceparent,
            )
        )
        return Answer.to(outcome, Assessment.of(outcome.state.last))

    return app


def client_of(request: Command[PostTransaction]) -> str:
    """Whose transaction it is.

    Raises:
        HttpProblem: 403, it is another client's.
        InvalidInputError: the header holds no name.
    """
    client = request.body.user_id
    sent = request.exchange.headers.get(b"x-user-id")
    if sent is not None:
        request.caller.require_admin()
        try:
            client = read_text(sent.decode())
            without_card(client)
        except ValueError:
            raise invalid("X-User-Id", "must be a client's name, in UTF-8") from None
    if not request.actor.may_act_for(client):
        raise forbidden("userID must be the caller's own name")
    return client


def requested_at_of(request: Command[PostTransaction]) -> datetime | None:
    """When it was requested, if that is said: whoever says so moves the windows of its rules.

    Raises:
        HttpProblem: 403, the caller is no administrator.
    """
    if request.body.requested_at is not None:
        request.caller.require_admin()
    return request.body.requested_at


@asynccontextmanager
async def open_service(runtime: Runtime) -> AsyncIterator[FastAPI]:
    """The service with its projector, in one process."""
    settings = runtime.settings_as(PaymentSettings)
    rules, reducer = read_rules_file(settings.fraud_rules), card_reducer(settings)
    projecting, shadowing = police_team(settings, PROJECTOR)
    bus = await runtime.command_bus()
    async with (
        AsyncExitStack() as stack,
        ConsistentReads.open(settings, PROJECTOR.name) as reads,
        projecting.at_work(runtime.seconds_to_stop),
        shadowing.at_work(runtime.seconds_to_stop),
    ):
        watch = stack.enter_context(RuleWatch.at_work(rules))
        checks = {
            "write_model": bus.ready,
            "read_model": reads.ready,
            "projector": projecting.problem,
            "shadow_rules": shadowing.problem,
        }
        police = Police(bus, reads, watch, utc_now)
        links = links_to(PAYMENT_PAGES, settings, "Fraud police")
        yield create_app(bus, reads, police, reducer, checks, links=links)
