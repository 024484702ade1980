"""Transactions of a log that was restored, while the one that it was taken from has gone on.

Whatever the provider has charged for that one it has charged for both.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import pytest

from codebase.operations import intents as operations
from codebase.registry import SYSTEM
from codebase.services.transact.driver import FRAUD_POLICE
from codebase.views.payments.settings import PaymentSettings
from tests.clocks import StandingClock
from tests.integration.flow import query
from tests.integration.payments import (
    CLEARED,
    COMPLETE,
    Outside,
    Payer,
    breakers_on_a_standing_clock,
    comes_to,
    find_the_provider_away,
    pay_together,
    settings_of,
    until,
    until_the_provider_is_left_alone,
)
from tests.integration.restoring import restored
from tests.integration.test_transactions import tell
from tests.patience import NEVER_SECONDS

if TYPE_CHECKING:
    from tests.databases import Databases

OF_EACH = 3
OPEN_AT = "SELECT count(*) FROM reaction.intent WHERE target = %s AND ended_at IS NULL"
OPEN = "SELECT count(*) FROM reaction.intent WHERE ended_at IS NULL"
PUT_OFF = "UPDATE reaction.intent SET due_at = due_at + interval '1 day' WHERE target = %s"
HAVE_DUE = "UPDATE reaction.intent SET due_at = now() WHERE target = %s"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> StandingClock:
    return breakers_on_a_standing_clock(monkeypatch)


Made = dict[str, list[str]]
"""Status -> the transactions that stand so in a log that is then restored."""


@pytest.fixture
def made(databases: Databases, outside: Outside, clock: StandingClock) -> Made:  # noqa: ARG001 - it stands
    """While provider and police are away, one after the other; both are back when it is told."""
    found: Made = defaultdict(list)
    settings = settings_of(databases, outside)

    async def while_they_are_away(payer: Payer) -> None:
        outside.provider = lambda _body, _nth: "fail"
        await find_the_provider_away(payer)
        for each in await pay_together(payer, OF_EACH):
            await comes_to(payer, each, CLEARED)
        outside.police = lambda _body, _nth: "fail"
        await pay_together(payer, OF_EACH)

        async def all_are_to_be_looked_at() -> bool:
            return query(databases.as_owner(), OPEN_AT, FRAUD_POLICE) == [(OF_EACH,)]

        await until(all_are_to_be_looked_at)
        latest = {"Consistency-Token": "latest"}
        page = (await payer.client.get("/transactions", headers=latest)).raise_for_status()
        for each in page.json()["items"]:
            found[each["status"]].append(each["transactionID"])

    tell(settings, while_they_are_away)
    assert {"PENDING", "CLEARED", "PAYMENT_INITIATED"} == set(found)
    outside.provider = lambda _body, _nth: "charge"
    outside.police = lambda _body, _nth: "clear"
    return found


def adopted(copy: Databases, outside: Outside) -> PaymentSettings:
    settings = settings_of(copy, outside)
    operations.adopt(settings, SYSTEM.reactions(), skip_open=False)
    return settings


async def all_are_paid(payer: Payer, databases: Databases, made: Made) -> None:
    """Each of them, and nobody has to see to anything."""

    async def nothing_is_left() -> bool:
        assert operations.list_parked(databases.settings) == []
        return query(databases.as_owner(), OPEN) == [(0,)]

    await until(nothing_is_left)
    for each in all_of(made):
        assert await payer.history(each) == COMPLETE


def all_of(made: Made) -> list[str]:
    return [each for those in made.values() for each in those]


@pytest.mark.parametrize("goes_on", [True, False], ids=["charged before", "charged nowhere"])
def test_what_was_open_when_the_log_was_restored_is_charged_once_and_complete_in_it(
    databases: Databases, outside: Outside, made: Made, *, goes_on: bool
) -> None:
    with restored(databases) as copy:
        for each in [databases, copy] if goes_on else [copy]:
            settings = adopted(each, outside) if each is copy else settings_of(each, outside)

            async def story(payer: Payer, each: Databases = each) -> None:
                await all_are_paid(payer, each, made)

            tell(settings, story)
    assert outside.charges == dict.fromkeys(all_of(made), 1)


def test_what_was_charged_before_is_complete_though_the_provider_is_away_when_it_is_cleared_again(
    databases: Databases, outside: Outside, clock: StandingClock, made: Made
) -> None:
    async def in_the_original(payer: Payer) -> None:
        await all_are_paid(payer, databases, made)

    async def in_the_copy(payer: Payer) -> None:
        await until_the_provider_is_left_alone()
        with copy.as_owner() as owner:
            owner.execute(HAVE_DUE, [FRAUD_POLICE])
        for each in made["PENDING"]:
            await comes_to(payer, each, CLEARED)
        outside.inquiry = lambda _nth: "tell"
        clock.push(NEVER_SECONDS)
        await all_are_paid(payer, copy, made)

    with restored(databases) as copy:
        tell(settings_of(databases, outside), in_the_original)
        outside.inquiry = lambda _nth: "fail"
        settings = adopted(copy, outside)
        with copy.as_owner() as owner:
            owner.execute(PUT_OFF, [FRAUD_POLICE])
        tell(settings, in_the_copy)
    assert outside.charges == dict.fromkeys(all_of(made), 1)
