"""What tests of payments share: the outside world, with manners of its own, and a payment."""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import httpx
from aiohttp import web
from prometheus_client import REGISTRY

from codebase.engine.reactions import dispatcher
from codebase.engine.reactions.breaker import FAILURES_TO_OPEN, Breaker
from codebase.foundation.settings import Settings, extended
from codebase.registry import SYSTEM
from codebase.services.transact import at_work
from codebase.services.transact.driver import PAYMENT_PROVIDER, TRANSACTIONS
from codebase.views.payments.settings import PaymentSettings
from codebase.web.runtime import Runtime
from codebase.web.server import serving
from codebase.web.shell import assemble
from tests.clocks import StandingClock
from tests.integration.answering import answering
from tests.integration.jobs import on_a_loop
from tests.patience import PATIENCE_SECONDS

if TYPE_CHECKING:
    import pytest

    from tests.databases import Databases

END_LEASES = """
    UPDATE reaction.intent SET due_at = clock_timestamp()
    WHERE token IS NOT NULL AND ended_at IS NULL
"""
CARD = "1234567887654321"
REASON = {
    "rule": "card_velocity",
    "version": 1,
    "weight": 60,
    "observed": "31",
    "limit": "30",
    "window": "60 s",
    "kind": "hit",
    "sentence": "the card was used 31 times in a minute",
}
FAILED_RULE = {
    **REASON,
    "rule": "client_history",
    "weight": 0,
    "kind": "err",
    "sentence": "this rule could not tell: KeyError",
}
FLOW = ("read_model_sync", "transact")
COMPLETE = ["PENDING", "CLEARED", "PAYMENT_INITIATED", "PAYMENT_COMPLETE"]
CLEARED = COMPLETE[:2]
MOMENT_SECONDS = 0.02
POLICE_PATH = "/service/fraudpolice/api/v1/transaction/"


def payment(
    amount: str = "123.00", *, card: object = CARD, method: str = "amazonpay", **order: object
) -> dict[str, Any]:
    """The documented request."""
    return {
        "order": {"id": 1234, "name": "A lamp", "cost": amount, "currency": "INR", **order},
        "paymentMethod": method,
        "payment": {"card": card, "type": "wallet", "amount": amount, "currency": "INR"},
    }


def some_card(chance: random.Random) -> str:
    """A number that no other test has."""
    return f"4{chance.randrange(10**14, 10**15)}"


@dataclass
class Outside:
    """The fraud police and a payment provider that charges whenever it is asked to."""

    url: str = ""
    asked: list[tuple[Mapping[str, str], Mapping[str, Any]]] = field(default_factory=list)
    """(headers, body) of what the police was shown."""
    charges: Counter[str] = field(default_factory=Counter)
    inquiries: Counter[str] = field(default_factory=Counter)
    bodies: list[Mapping[str, Any]] = field(default_factory=list)
    police: Callable[[Mapping[str, Any], int], str] = lambda _body, _nth: "clear"
    """(what it is shown, how often it has been) -> clear, fraud, hang, fail, nonsense."""
    provider: Callable[[Mapping[str, Any], int], str] = lambda _body, _nth: "charge"
    """(what it is asked for, how often) -> charge, refuse, hang, fail, lose, late, reject."""
    inquiry: Callable[[int], str] = lambda _nth: "tell"
    """(how often it has been asked about one charge) -> tell, hang, fail."""
    calls: Counter[str] = field(default_factory=Counter)
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    late: threading.Event = field(default_factory=threading.Event)
    """Until it is set, who is late does not answer."""
    changed: threading.Condition = field(default_factory=threading.Condition)

    async def look(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        with self.changed:
            self.asked.append((dict(request.headers), body))
            self.calls[f"police {body['transactionID']}"] += 1
            manner = self.police(body, self.calls[f"police {body['transactionID']}"])
        match manner:
            case "hang":
                await self.closing.wait()
                return web.json_response({}, status=HTTPStatus.SERVICE_UNAVAILABLE)
            case "fail":
                return web.json_response({}, status=HTTPStatus.INTERNAL_SERVER_ERROR)
            case "nonsense":
                return web.json_response({"code": 200, "message": {"isFraud": "perhaps"}})
        is_fraud = manner == "fraud"
        reasons = [REASON, FAILED_RULE] if is_fraud else []
        message = {"isFraud": is_fraud, "score": 60 if is_fraud else 0, "reasons": reasons}
        return web.json_response({"code": 200, "message": message})

    async def charge(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        key = body["transactionID"]
        with self.changed:
            self.bodies.append(body)
            self.calls[key] += 1
            manner = self.provider(body, self.calls[key])
        match manner:
            case "refuse":
                problem = {"type": "/problems/payment-refused", "detail": "no money there"}
                return web.json_response(problem, status=HTTPStatus.PAYMENT_REQUIRED)
            case "reject":
                return web.json_response({"detail": "what?"}, status=HTTPStatus.BAD_REQUEST)
            case "fail":
                return web.json_response({}, status=HTTPStatus.INTERNAL_SERVER_ERROR)
            case "hang":
                await self.closing.wait()
                return web.json_response({}, status=HTTPStatus.SERVICE_UNAVAILABLE)
        with self.changed:
            self.charges[key] += 1
        if manner == "late":
            await asyncio.to_thread(self.late.wait)
        if manner == "lose" and request.transport is not None:
            request.transport.abort()
        return web.json_response(self._told(key))

    async def tell(self, request: web.Request) -> web.Response:
        key = request.match_info["key"]
        with self.changed:
            self.inquiries[key] += 1
            manner = self.inquiry(self.inquiries[key])
        match manner:
            case "fail":
                return web.json_response({}, status=HTTPStatus.INTERNAL_SERVER_ERROR)
            case "hang":
                await self.closing.wait()
                return web.json_response({}, status=HTTPStatus.SERVICE_UNAVAILABLE)
        if key not in self.charges:
            return web.json_response({}, status=HTTPStatus.NOT_FOUND)
        return web.json_response(self._told(key))

    def _told(self, key: str) -> dict[str, Any]:
        return {"transactionID": key, "charges": self.charges[key]}


@contextmanager
def outside_open(port: int) -> Iterator[Outside]:
    """Both of them on a loopback port."""
    outside = Outside(url=f"http://127.0.0.1:{port}")

    routes = (
        web.post(POLICE_PATH, outside.look),
        web.post("/charges", outside.charge),
        web.get("/charges/{key}", outside.tell),
    )
    with on_a_loop(lambda: answering(port, *routes, closing=outside.closing.set)):
        yield outside


def settings_of(databases: Databases, outside: Outside, **more: Any) -> PaymentSettings:  # noqa: ANN401 - settings
    """Settings that lead to this outside world, in databases that may be acted on."""
    with databases.as_owner() as owner:
        owner.execute("SELECT reaction.adopt()")
    settings = databases.settings.model_copy(update=more)
    own = {"fraud_police_url": outside.url, "payment_provider_url": outside.url}
    return extended(settings, PaymentSettings).model_copy(update={**own, **more})


class Payer:
    """A client of the service."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client

    async def pay(
        self, body: Mapping[str, Any] | None = None, key: str | None = None, **headers: str
    ) -> httpx.Response:
        sent = {**headers, **({"Idempotency-Key": key} if key else {})}
        return await self.client.post("/transact", json=body or payment(), headers=sent)

    async def pay_until(
        self, status: int, body: Mapping[str, Any] | None = None, key: str | None = None
    ) -> httpx.Response:
        """The same request again and again, until it is answered so."""
        key = key or uuid4().hex
        while (answer := await self.pay(body, key)).status_code != status:
            assert answer.status_code == HTTPStatus.ACCEPTED, answer.text
        return answer

    async def pay_until_with(self, token: str) -> httpx.Response:
        """The documented request by whoever has a token, until it is paid."""
        key = uuid4().hex
        while (
            answer := await self.pay(key=key, **{"X-Token": token})
        ).status_code != HTTPStatus.OK:
            assert answer.status_code == HTTPStatus.ACCEPTED, answer.text
        return answer

    async def details(self, transaction_id: str) -> dict[str, Any]:
        """What is shown of a transaction, with everything that the log holds by now."""
        path, latest = f"/transactions/{transaction_id}", {"Consistency-Token": "latest"}
        async with asyncio.timeout(PATIENCE_SECONDS):
            # A connection to the log has a deadline of its own, which a busy machine may pass.
            while (
                answer := await self.client.get(path, headers=latest)
            ).status_code == HTTPStatus.SERVICE_UNAVAILABLE:
                pass
        found: dict[str, Any] = answer.raise_for_status().json()
        return found

    async def history(self, transaction_id: str) -> list[str]:
        """The statuses that a transaction has had."""
        return [step["status"] for step in (await self.details(transaction_id))["transitions"]]


@asynccontextmanager
async def paying(settings: Settings, *names: str) -> AsyncIterator[Payer]:
    """The service and the read model on one port, and a client of theirs."""
    async with AsyncExitStack() as stack:
        runtime = await stack.enter_async_context(Runtime.open(settings, SYSTEM.contexts))
        apps = [
            await stack.enter_async_context(SYSTEM.load(name).open_service(runtime))
            for name in names or FLOW
        ]
        port = await stack.enter_async_context(serving(assemble(apps, settings), settings, 0))
        url = f"http://127.0.0.1:{port}"
        yield Payer(await stack.enter_async_context(httpx.AsyncClient(base_url=url)))


async def until(condition: Callable[[], Awaitable[object]]) -> None:
    """Return as soon as the condition holds; fail when it never does."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await condition():  # noqa: ASYNC110 - it is other threads that do it
            await asyncio.sleep(MOMENT_SECONDS)


async def comes_to(payer: Payer, transaction_id: str, history: list[str]) -> None:
    async def there() -> bool:
        return await payer.history(transaction_id) == history

    await until(there)


def breakers_on_a_standing_clock(monkeypatch: pytest.MonkeyPatch) -> StandingClock:
    """Whom a service leaves alone from now on it leaves alone until this clock is pushed.

    Whoever answers is waited for.
    """
    clock = StandingClock()
    monkeypatch.setattr(at_work, "breaker", lambda: Breaker(clock))
    monkeypatch.setattr(at_work, "POLICE_DEADLINE_SECONDS", PATIENCE_SECONDS)
    monkeypatch.setattr(at_work, "PROVIDER_DEADLINE_SECONDS", PATIENCE_SECONDS)
    # What is cut off at the end comes back, and its claim with it.
    monkeypatch.setattr(dispatcher, "CUT_OFF_SECONDS", PATIENCE_SECONDS)
    return clock


async def until_the_provider_is_left_alone() -> None:
    """By the driver in this process."""
    labels = {"reaction": TRANSACTIONS.name, "target": PAYMENT_PROVIDER}

    async def is_left_alone() -> bool:
        return REGISTRY.get_sample_value("orderly_reaction_breaker_open", labels) == 1

    await until(is_left_alone)


async def find_the_provider_away(payer: Payer) -> list[str]:
    """Pay until it is left alone; the transactions that found it out, each at least CLEARED."""
    made = await pay_together(payer, FAILURES_TO_OPEN)
    await until_the_provider_is_left_alone()
    for each in made:

        async def is_decided(each: str = each) -> bool:
            return len(await payer.history(each)) > 1

        await until(is_decided)
    return made


async def pay_together(payer: Payer, payments: int) -> list[str]:
    """So many transactions that do not end yet."""
    answers = await asyncio.gather(*(payer.pay() for _ in range(payments)))
    assert {answer.status_code for answer in answers} == {HTTPStatus.ACCEPTED}
    return [answer.json()["transactionID"] for answer in answers]
