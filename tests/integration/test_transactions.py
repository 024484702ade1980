"""Payments through the service: answered as they end, once for each key, and never forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from codebase.operations.verify import verify
from codebase.registry import SYSTEM
from codebase.services.transact.driver import TRANSACTION_AGES, TRANSACTIONS
from codebase.views.payments.settings import PaymentSettings
from tests.integration.flow import query
from tests.integration.payments import (
    CARD,
    POLICE_PATH,
    REASON,
    Outside,
    Payer,
    outside_open,
    paying,
    payment,
    settings_of,
)

if TYPE_CHECKING:
    from tests.databases import Databases

Story = Callable[[Payer], Awaitable[None]]
COMPLETE = ["PENDING", "CLEARED", "PAYMENT_INITIATED", "PAYMENT_COMPLETE"]


@pytest.fixture
def outside(free_port: Callable[[], int]) -> Iterator[Outside]:
    with outside_open(free_port()) as opened:
        yield opened


@pytest.fixture
def settings(databases: Databases, outside: Outside) -> PaymentSettings:
    return settings_of(databases, outside)


def tell(settings: PaymentSettings, story: Story) -> None:
    async def told() -> None:
        async with paying(settings) as payer:
            await story(payer)

    asyncio.run(told())
    reactions = [TRANSACTIONS, TRANSACTION_AGES]
    found = verify(
        settings, SYSTEM.aggregates, [SYSTEM.read_model], reactions=reactions, say=lambda _: None
    )
    assert found == []


def test_the_documented_request_is_paid(settings: PaymentSettings, outside: Outside) -> None:
    async def story(payer: Payer) -> None:
        answer = await payer.pay_until(200)
        said = answer.json()
        transaction_id = said["transactionID"]
        assert said == {
            "message": "Transaction Successful",
            "transactionID": transaction_id,
            "status": "PAYMENT_COMPLETE",
        }
        assert answer.headers["Location"] == f"/transactions/{transaction_id}"
        shown = await payer.details(transaction_id)
        assert [step["status"] for step in shown["transitions"]] == COMPLETE
        assert shown["payment"]["card"] == {"brand": "unknown", "last_four": "4321"}
        assert outside.charges == {transaction_id: 1}

    tell(settings, story)
