"""A fraud police at work, and what tests send it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import httpx

from codebase.engine.commands.bus import CommandBus
from codebase.foundation.clock import Clock
from codebase.model.payments.fraud_rule_set import RuleSet, parse_rules
from codebase.services.fraud_police.police import Police
from codebase.services.fraud_police.projections import FRAUD_POLICE
from codebase.services.fraud_police.rule_watch import RuleWatch
from codebase.services.fraud_police.service import create_app
from codebase.services.fraud_police.shadow import police_team
from codebase.views.payments.fraud_rules_file import read_rules_file
from codebase.views.payments.settings import PaymentSettings, card_reducer
from codebase.web.consistent_reads import ConsistentReads
from codebase.web.shell import assemble
from tests.integration.flow import at_work, eventually, is_projected
from tests.patience import NEVER_SECONDS

if TYPE_CHECKING:
    from tests.databases import Databases

PATH = "/service/fraudpolice/api/v1/transaction/"
CALLERS = {"boss": "admin", "watcher": "operator", "shop": "client", "other": "client"}
TOKENS = tuple(
    f"{name}:{role}:{sha256(name.encode()).hexdigest()}" for name, role in CALLERS.items()
)
BEGIN = datetime(2026, 11, 28, 12, tzinfo=UTC)
DEFAULT_RULES = read_rules_file(None)
LUHN_RIGHT = "4111111111111111"

Story = Callable[["Shop"], Awaitable[None]]


class Hand:
    """A clock that the test moves; it goes on by itself by a microsecond a look."""

    def __init__(self, at: datetime = BEGIN) -> None:
        self.at = at

    def __call__(self) -> datetime:
        self.at += timedelta(microseconds=1)
        return self.at

    def move(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


def documented(**changed: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """The transaction of the documents, with some fields changed."""
    payment = {"card": 1234567887654321, "type": "wallet", "amount": 123.00, "currency": "INR"}
    order = {"id": 1234, "name": "Blue shoes", "cost": 123.00, "currency": "INR"}
    for part in (payment, order):
        part.update({name: changed.pop(name) for name in list(changed) if name in part})
    return {
        "transactionID": str(uuid4()),
        "userID": "shop",
        "paymentMethod": "amazonpay",
        "payment": payment,
        "order": order,
        **changed,
    }


class Shop:
    """A client of the police, and what tests have to know of both."""

    def __init__(self, client: httpx.AsyncClient, databases: Databases, clock: Clock) -> None:
        self.client = client
        self.databases = databases
        self.clock = clock

    async def send(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        who: str = "shop",
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        sent = {"X-Token": who, **(headers or {})}
        return await self.client.request(method, path, json=body, headers=sent)

    async def judged(self, body: object, who: str = "shop") -> dict[str, Any]:
        """The message of an answer that has to be 200."""
        answer = await self.send("POST", PATH, body, who=who)
        assert answer.status_code == 200, answer.text
        assert answer.json()["code"] == 200
        message: dict[str, Any] = answer.json()["message"]
        return message

    async def caught_up(self) -> None:
        """Wait until the police's tables hold all of the log."""
        await asyncio.to_thread(eventually, lambda: is_projected(self.databases, FRAUD_POLICE.name))


def rules(text: str, threshold: int = 100) -> RuleSet:
    return parse_rules(f"threshold = {threshold}\n{text}")


def with_police(
    databases: Databases,
    story: Story,
    rule_set: RuleSet = DEFAULT_RULES,
    now: Clock | None = None,
    card_keys: tuple[str, ...] | None = None,
    *,
    rest_seconds: float = NEVER_SECONDS,
    rules_clock: Callable[[], float] = lambda: 0.0,
) -> None:
    """Run a story with a police, its projector beside it; no rule is slow but by `rules_clock`."""
    changed: dict[str, Any] = {"api_tokens": TOKENS}
    if card_keys is not None:
        changed["card_keys"] = card_keys
    settings = databases.settings.model_copy(update=changed)
    clock = now or Hand()

    async def told() -> None:
        with RuleWatch.at_work(rule_set, rest_seconds=rest_seconds, clock=rules_clock) as watch:
            async with _opened(settings, watch, clock) as client:
                await story(Shop(client, databases, clock))

    projecting, shadowing = police_team(settings, FRAUD_POLICE)
    with at_work(projecting), at_work(shadowing):
        asyncio.run(told())


@asynccontextmanager
async def another_police(shop: Shop, rule_set: RuleSet) -> AsyncIterator[Shop]:
    """One more beside that of a story, with connections of its own; the same client of it."""
    settings = shop.databases.settings.model_copy(update={"api_tokens": TOKENS})
    with RuleWatch.at_work(rule_set, rest_seconds=NEVER_SECONDS, clock=lambda: 0.0) as watch:
        async with _opened(settings, watch, shop.clock) as client:
            yield Shop(client, shop.databases, shop.clock)


@asynccontextmanager
async def _opened(
    settings: PaymentSettings, watch: RuleWatch, clock: Clock
) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        CommandBus.open(settings) as bus,
        ConsistentReads.open(settings, FRAUD_POLICE.name) as reads,
    ):
        police = Police(bus, reads, watch, clock)
        app = create_app(bus, reads, police, card_reducer(settings), {})
        transport = httpx.ASGITransport(app=assemble([app], settings))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            yield client


def rule_names(message: Mapping[str, Any]) -> set[str]:
    return {reason["rule"] for reason in message["reasons"]}
