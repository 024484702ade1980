"""The driver at work: whom it sends to, and how long it waits for them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import aiohttp

from codebase.engine.commands.bus import CommandBus
from codebase.engine.commands.submission import Outcome
from codebase.engine.reactions.breaker import Breaker
from codebase.engine.reactions.bus_target import BusTarget
from codebase.engine.reactions.http_target import Call, HttpTarget
from codebase.engine.reactions.reaction import Sent
from codebase.engine.reactions.target import Target
from codebase.engine.reactions.team import ReactionTeam
from codebase.engine.reactions.way import Way
from codebase.services.transact import driver
from codebase.services.transact.payment_methods import initiate, status
from codebase.services.transact.steps import Steps
from codebase.services.transact.targets import PaymentTarget, PoliceTarget
from codebase.views.payments.settings import PaymentSettings
from codebase.web.other_services import with_token
from codebase.web.runtime import Runtime
from codebase.web.shell import Check

POLICE_DEADLINE_SECONDS = 0.3
PROVIDER_DEADLINE_SECONDS = 2.0
FAILURES_WITHIN_SECONDS = 10.0
LONGEST_PAUSE_SECONDS = 2.0
"""A thousand payments that have waited are to be done five seconds after whoever was away is back,
which begins with finding out that he is."""


def look(sent: Sent) -> Call:
    """What the fraud police is shown."""
    return Call(
        method="POST",
        path="/service/fraudpolice/api/v1/transaction/",
        body=dict(sent.send.data),
        headers={"X-User-Id": sent.send.data["userID"]},
    )


def breaker() -> Breaker:
    """Opens after five failures within 10 s, and tries again at least every 2 s."""
    return Breaker(
        within_seconds=FAILURES_WITHIN_SECONDS, longest_pause_seconds=LONGEST_PAUSE_SECONDS
    )


def provider_token(settings: PaymentSettings) -> str | None:
    """What the provider is asked with: ours only where it is our own stand-in."""
    ours = settings.service_token if settings.development else None
    return settings.payment_provider_token or ours


def targets_of(
    settings: PaymentSettings,
    session: aiohttp.ClientSession,
    steps: Steps,
    ways: Mapping[str, Way],
) -> dict[str, Target]:
    """Whom the driver sends to, and by which ways: who is with the one may go to the other."""
    provider = HttpTarget(
        session,
        settings.payment_provider_url,
        initiate,
        inquiry=status,
        headers=with_token(provider_token(settings)),
        deadline_seconds=PROVIDER_DEADLINE_SECONDS,
    )
    police = HttpTarget(
        session,
        settings.fraud_police_url,
        look,
        headers=with_token(settings.service_token),
        deadline_seconds=POLICE_DEADLINE_SECONDS,
    )
    payment = PaymentTarget(provider, steps)
    return {
        driver.FRAUD_POLICE: PoliceTarget(
            police,
            steps,
            payment,
            here=ways[driver.FRAUD_POLICE],
            to_provider=ways[driver.PAYMENT_PROVIDER],
        ),
        driver.PAYMENT_PROVIDER: payment,
    }


@asynccontextmanager
async def driving(
    runtime: Runtime,
    settings: PaymentSettings,
    bus: CommandBus,
    steps: Steps,
    heard: Callable[[Outcome], None],
) -> AsyncIterator[dict[str, Check]]:
    """Both reactions at work; yields the checks that tell whether they are.

    What becomes of the age of transactions is told to `heard`, as all else is by `steps`.
    """
    name, most = driver.TRANSACTIONS.name, settings.payments_in_flight
    ways = {
        target: Way(name, target, most=most, breaker=breaker())
        for target in (driver.FRAUD_POLICE, driver.PAYMENT_PROVIDER)
    }
    session = await runtime.http_session()
    targets = targets_of(settings, session, steps, ways)
    team = ReactionTeam(settings, driver.TRANSACTIONS, targets, ways)
    log = BusTarget(bus, driver.TRANSACTION_AGES.name, driver.command, heard=heard)
    of_ages = {driver.LOG: log}
    ages = ReactionTeam(settings, driver.TRANSACTION_AGES, of_ages)
    async with team.at_work(runtime.seconds_to_stop), ages.at_work(runtime.seconds_to_stop):
        yield {"driver": team.problem, "ages": ages.problem}
