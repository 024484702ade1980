"""The stand-in for a payment provider: what it does by the amount, and what it remembers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import httpx
import pytest
from fastapi import Request

from codebase.foundation.settings import Settings
from codebase.services.payment_provider import service
from codebase.services.payment_provider.ledger import Charge, Ledger
from codebase.services.payment_provider.service import create_app
from codebase.web.server import serving
from codebase.web.shell import assemble
from tests.integration.payments import (
    COMPLETE,
    Outside,
    Payer,
    comes_to,
    outside_open,
    paying,
    payment,
    settings_of,
)
from tests.integration.test_transactions import FAILED, settle

if TYPE_CHECKING:
    from tests.databases import Databases


@pytest.fixture
def outside(free_port: Callable[[], int]) -> Iterator[Outside]:
    """Of it the fraud police only."""
    with outside_open(free_port()) as opened:
        yield opened


@asynccontextmanager
async def provider(folder: Path) -> AsyncIterator[httpx.AsyncClient]:
    settings = Settings(drain_seconds=0.1)
    with Ledger.open(folder / "ledger") as ledger:
        app = assemble([create_app(ledger)], settings)
        async with (
            serving(app, settings, 0) as port,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client,
        ):
            yield client


def charge(amount: str, transaction_id: UUID | None = None) -> dict[str, Any]:
    return {
        "transactionID": str(transaction_id or uuid4()),
        "channel": "paytm",
        "type": "wallet",
        "amount": amount,
        "currency": "INR",
    }


def test_it_charges_each_transaction_once_and_remembers_it(tmp_path: Path) -> None:
    async def story() -> None:
        body = charge("123.00")
        told = {
            "transactionID": body["transactionID"],
            "amount": "123.00",
            "currency": "INR",
            "charges": 1,
        }
        async with provider(tmp_path) as client:
            for _ in range(3):
                answer = await client.post("/charges", json=body)
                assert (answer.status_code, answer.json()) == (200, told)
            unknown = await client.get(f"/charges/{uuid4()}")
            assert unknown.status_code == 404
        async with provider(tmp_path) as client:
            found = await client.get(f"/charges/{body['transactionID']}")
            assert found.json() == told

    asyncio.run(story())


def test_what_was_charged_is_told_whatever_is_asked_for_later(tmp_path: Path) -> None:
    async def story() -> None:
        first, transaction = charge("123.00"), uuid4()
        first["transactionID"] = str(transaction)
        async with provider(tmp_path) as client:
            await client.post("/charges", json=first)
            other = {**charge("999.00", transaction), "currency": "USD"}
            answer = await client.post("/charges", json=other)
            found = await client.get(f"/charges/{transaction}")
        assert (answer.json()["amount"], answer.json()["currency"]) == ("123.00", "INR")
        assert answer.json() == found.json()

    asyncio.run(story())


@pytest.mark.parametrize(
    ("amount", "status", "kind"),
    [
        ("402.00", 402, "/problems/payment-refused"),
        ("500.00", 500, "/problems/payment-error"),
        ("0.00", 422, "/problems/invalid-input"),
    ],
)
def test_some_amounts_are_not_charged(tmp_path: Path, amount: str, status: int, kind: str) -> None:
    async def story() -> None:
        body = charge(amount)
        async with provider(tmp_path) as client:
            answer = await client.post("/charges", json=body)
            assert (answer.status_code, answer.json()["type"]) == (status, kind)
            found = await client.get(f"/charges/{body['transactionID']}")
            assert found.status_code == 404

    asyncio.run(story())


@pytest.mark.parametrize(("amount", "is_charged"), [("408.00", False), ("409.00", True)])
def test_some_amounts_are_never_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, amount: str, *, is_charged: bool
) -> None:
    hang, hanging = service.hang, asyncio.Event()

    async def told(request: Request) -> None:
        hanging.set()
        await hang(request)

    monkeypatch.setattr(service, "hang", told)

    async def story() -> None:
        body = charge(amount)
        async with provider(tmp_path) as client:
            asked = asyncio.create_task(client.post("/charges", json=body))
            hangs = asyncio.create_task(hanging.wait())
            await asyncio.wait({asked, hangs}, return_when=asyncio.FIRST_COMPLETED)
            found = await client.get(f"/charges/{body['transactionID']}")
            assert (found.status_code == 200) == is_charged
            assert hanging.is_set()
            assert not asked.done()
            asked.cancel()

    asyncio.run(story())


def test_transactions_are_paid_by_it(
    databases: Databases, outside: Outside, tmp_path: Path
) -> None:
    async def story() -> None:
        async with AsyncExitStack() as stack:
            bank = await stack.enter_async_context(provider(tmp_path))
            settings = settings_of(databases, outside, payment_provider_url=str(bank.base_url))
            payer: Payer = await stack.enter_async_context(paying(settings))
            paid = (await payer.pay_until(200)).json()["transactionID"]
            refused = await payer.pay_until(402, payment("402.00"))
            lost = (await payer.pay(payment("409.00"))).json()["transactionID"]
            stuck = [
                (await payer.pay(payment(amount))).json()["transactionID"]
                for amount in ("408.00", "500.00")
            ]
            assert refused.json()["type"] == "/problems/payment-failed"
            await comes_to(payer, lost, COMPLETE)
            for each in stuck:
                await comes_to(payer, each, COMPLETE[:-1])
                assert (await settle(payer, each, "PAYMENT_FAILED")).status_code == 200
                await comes_to(payer, each, FAILED)
            for each, status in ((paid, 200), (lost, 200), (stuck[0], 404), (stuck[1], 404)):
                assert (await bank.get(f"/charges/{each}")).status_code == status

    asyncio.run(story())


def test_a_ledger_keeps_amounts_as_they_are(tmp_path: Path) -> None:
    made = uuid4()
    with Ledger.open(tmp_path / "some" / "ledger") as ledger:
        ledger.charge(made, Decimal("0.10"), "INR", "card")
        ledger.charge(made, Decimal("9.99"), "INR", "card")
    with Ledger.open(tmp_path / "some" / "ledger") as ledger:
        assert ledger.find(made) == Charge(Decimal("0.10"), "INR")
        assert ledger.find(uuid4()) is None
