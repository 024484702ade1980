"""Payments that are cleared while the provider is away: they are not begun, and not forgotten."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.flow import query
from tests.integration.payments import (
    CLEARED,
    COMPLETE,
    Outside,
    Payer,
    breakers_on_a_standing_clock,
    comes_to,
    find_the_provider_away,
    outside_open,
    pay_together,
    settings_of,
    until,
)
from tests.integration.test_transactions import tell
from tests.patience import NEVER_SECONDS

if TYPE_CHECKING:
    from tests.databases import Databases

EXPIRED = [*CLEARED, "PAYMENT_FAILED"]
STANDS = """
    SELECT meta ->> 'topic' FROM event WHERE stream_id = %s ORDER BY version DESC LIMIT 1
"""
HAVE_EXPIRE = "UPDATE reaction.reminder SET due_at = now() WHERE subject = %s"
OPEN = "SELECT count(*) FROM reaction.intent WHERE ended_at IS NULL"


def test_what_is_cleared_while_the_provider_is_away_is_paid_when_it_is_back_or_has_expired(
    databases: Databases,
    outside: Outside,
    free_port: Callable[[], int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, port = breakers_on_a_standing_clock(monkeypatch), free_port()
    settings = settings_of(databases, outside, payment_provider_url=f"http://127.0.0.1:{port}")
    stood = {}

    def charge(body: Mapping[str, Any], _nth: int) -> str:
        transaction_id = body["transactionID"]
        [(stood[transaction_id],)] = query(databases.as_owner(), STANDS, transaction_id)
        return "charge"

    async def everything_is_done() -> bool:
        return query(databases.as_owner(), OPEN) == [(0,)]

    async def story(payer: Payer) -> None:
        found_out = await find_the_provider_away(payer)
        *cleared, old = await pay_together(payer, 6)
        for each in (*cleared, old):
            await comes_to(payer, each, CLEARED)
        await expire(databases, old)
        await comes_to(payer, old, EXPIRED)
        for each in cleared:
            assert await payer.history(each) == CLEARED
        with outside_open(port) as provider:
            provider.provider = charge
            clock.push(NEVER_SECONDS)
            for each in (*found_out, *cleared):
                await comes_to(payer, each, COMPLETE)
            await until(everything_is_done)
        assert provider.charges == dict.fromkeys([*found_out, *cleared], 1)
        # Whoever dies now has written that the money may have moved.
        assert set(stood.values()) == {"transaction.payment_initiated"}
        assert not provider.calls[old]
        assert await payer.history(old) == EXPIRED

    tell(settings, story)


async def expire(databases: Databases, transaction_id: str) -> None:
    """Its time is over; what reads about ages is in no hurry."""

    async def has_its_reminder_due() -> bool:
        with databases.as_owner() as owner:
            return owner.execute(HAVE_EXPIRE, [transaction_id]).rowcount == 1

    await until(has_its_reminder_due)
