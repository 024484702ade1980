"""Processes that die anywhere between a request and its end: each is charged once, none is stuck.

`./test.sh` kills once at each place; `./test.sh torture` with 25 seeds. The provider of these tests
charges whenever it is asked to.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import httpx
import pytest

from codebase.engine.log.codec import encode
from codebase.engine.log.events import NewEvent
from codebase.engine.log.identifiers import partition_of
from codebase.foundation.failpoints import EXIT_STATUS
from codebase.foundation.settings import Settings
from codebase.model.payments.transaction import TRANSACTION, TransactionRequested
from codebase.operations.verify import verify
from codebase.registry import SYSTEM
from codebase.services.transact.driver import TRANSACTION_AGES, TRANSACTIONS
from codebase.views.payments.settings import PaymentSettings
from tests.integration.everything import is_ready
from tests.integration.flow import (
    eventually,
    meta,
    query,
    running,
    until_nobody_is_connected,
    write,
)
from tests.integration.payments import (
    COMPLETE,
    END_LEASES,
    Outside,
    breakers_on_a_standing_clock,
    comes_to,
    find_the_provider_away,
    pay_together,
    paying,
    payment,
    settings_of,
    until,
)
from tests.integration.test_reaction_kills import SEEDS
from tests.integration.test_transactions import settle
from tests.processes import status_of
from tests.unit.test_transaction import REQUESTED

if TYPE_CHECKING:
    from tests.databases import Databases

PLACES = (
    "projector_before_commit",
    "projector_after_apply",
    "reaction_after_taking",
    "reaction_before_call",
    "reaction_after_call",
    "reaction_before_inquiry",
    "reaction_after_inquiry",
    "reaction_before_outcome_commit",
    "reaction_after_outcome_commit",
    "reaction_before_reminder_commit",
    "reaction_after_reminder_commit",
    # The others are met on the way to the fraud police first.
    "transact_after_decision",
    "transact_after_initiation",
    "transact_after_charge",
    "transact_after_payment",
    "transact_after_inquiry",
)
STATUSES = """
    SELECT DISTINCT ON (stream_id) stream_id, meta ->> 'topic' FROM event
    WHERE category = 'transaction' ORDER BY stream_id, version DESC
"""
OPEN = "SELECT target, state, reason FROM reaction.intent WHERE ended_at IS NULL"
REMINDERS = "SELECT count(*) FROM reaction.reminder"


@contextmanager
def transacting(settings: PaymentSettings, port: int, **extra: str) -> Iterator[BaseProcess]:
    # A list is written into the environment with commas.
    keys = {"CARD_KEYS": ",".join(settings.card_keys)}
    module = ["tests.integration.run_transact", str(port)]
    with running(module, settings, **keys, **extra) as process:
        yield process


def requested(settings: Settings, transaction_id: UUID, **changes: Any) -> NewEvent:  # noqa: ANN401 - fields
    event: TransactionRequested = replace(REQUESTED, **changes)
    return NewEvent(
        unit=0,
        partition=partition_of(transaction_id, settings.partitions),
        stream_id=transaction_id,
        category=TRANSACTION.category,
        version=1,
        type=type(event).__name__,
        idempotence_key=None,
        data=encode(event),
        meta=meta(TRANSACTION.topic(event)),
        guards=(),
    )


@dataclass
class Wanted:
    """Transactions, and how each has to end."""

    ends: dict[UUID, set[str]] = field(default_factory=dict)

    def ask(self, databases: Databases, chance: random.Random) -> None:
        """Some that are paid, some that are refused, some that are fraud, and one too old."""
        asked = {
            "paid": {"payment_complete"},
            "refused": {"payment_failed"},
            "fraud": {"fraudulent"},
        }
        for kind in [*asked, *chance.choices(list(asked), k=chance.randint(1, 3))]:
            self._write(databases, asked[kind], order_name=kind)
        # Whichever is first counts.
        either = {"payment_failed", "payment_complete"}
        self._write(databases, either, order_name="old", max_age_seconds=0.0)

    def _write(self, databases: Databases, ends: set[str], **changes: Any) -> None:  # noqa: ANN401 - fields
        made = uuid4()
        write(databases, [requested(databases.settings, made, **changes)])
        self.ends[made] = {f"transaction.{end}" for end in ends}

    def are_at_their_ends(self, databases: Databases) -> bool:
        found: dict[UUID, str] = dict(query(databases.as_owner(), STATUSES))
        return all(found.get(each) in ends for each, ends in self.ends.items())


def end_leases(databases: Databases) -> None:
    """Nobody comes back from the dead: nothing is gained by waiting for his leases.

    Those of whoever follows him are not to be ended under his hands.
    """
    until_nobody_is_connected(databases)
    with databases.as_owner() as owner:
        owner.execute(END_LEASES)


def police(body: Mapping[str, Any], _nth: int) -> str:
    return "fraud" if body["order"]["name"] == "fraud" else "clear"


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("place", PLACES)
def test_a_death_anywhere_charges_each_once_and_leaves_none_stuck(
    databases: Databases, outside: Outside, free_port: Callable[[], int], place: str, seed: int
) -> None:
    chance = random.Random(f"{place} {seed}")  # noqa: S311 - repeatable
    settings = settings_of(databases, outside)
    loses_first = chance.random() < 0.5 or "inquiry" in place
    refused: set[str] = set()

    def provider(body: Mapping[str, Any], nth: int) -> str:
        if body["transactionID"] in refused:
            return "refuse"
        return "lose" if loses_first and nth == 1 else "charge"

    def remembering(body: Mapping[str, Any], nth: int) -> str:
        if body["order"]["name"] == "refused":
            refused.add(body["transactionID"])
        return police(body, nth)

    outside.police, outside.provider = remembering, provider
    if place.startswith("reaction") and loses_first:
        # The first inquiry is part of an attempt that does not know yet whether it is in doubt.
        outside.inquiry = lambda nth: "fail" if nth == 1 else "tell"
    wanted = Wanted()
    wanted.ask(databases, chance)
    with transacting(settings, free_port(), ORDERLY_FAILPOINT=place) as dying:
        assert status_of(dying) == EXIT_STATUS
        for _ in range(2):
            # What the dead had sent is done before anybody asks what became of it.
            httpx.get(f"{outside.url}/charges/nothing")
        end_leases(databases)
        with transacting(settings, free_port()):
            wanted.ask(databases, chance)
            eventually(lambda: wanted.are_at_their_ends(databases))
            eventually(lambda: query(databases.as_owner(), OPEN) == [])
            eventually(lambda: query(databases.as_owner(), REMINDERS) == [(0,)])
    check(databases, settings, outside)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_death_between_the_initiation_of_what_was_cleared_long_ago_and_its_charge(
    databases: Databases,
    outside: Outside,
    free_port: Callable[[], int],
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
) -> None:
    """The provider was away then: it is initiated by whoever is about to charge it.

    While he is there it is initiated with its decision, and the other tests die after that.
    """
    chance = random.Random(seed)  # noqa: S311 - repeatable
    breakers_on_a_standing_clock(monkeypatch)
    settings = settings_of(databases, outside)
    outside.provider = lambda _body, _nth: "fail"
    cleared = asyncio.run(only_cleared(settings, chance.randint(1, 4)))

    def stand() -> set[str]:
        found: dict[UUID, str] = dict(query(databases.as_owner(), STATUSES))
        return {found[UUID(each)] for each in cleared}

    assert stand() == {"transaction.cleared"}
    outside.provider = lambda _body, _nth: "charge"
    place = "transact_after_initiation"
    with transacting(settings, free_port(), ORDERLY_FAILPOINT=place) as dying:
        assert status_of(dying) == EXIT_STATUS
        assert "transaction.payment_initiated" in stand()
        assert not outside.charges
        end_leases(databases)
        with transacting(settings, free_port()):
            eventually(lambda: stand() == {"transaction.payment_complete"})
            eventually(lambda: query(databases.as_owner(), OPEN) == [])
            eventually(lambda: query(databases.as_owner(), REMINDERS) == [(0,)])
    check(databases, settings, outside)


def test_a_charge_by_who_died_is_found_though_a_person_has_settled_it_meanwhile(
    databases: Databases, outside: Outside, free_port: Callable[[], int]
) -> None:
    settings, made, port = settings_of(databases, outside), uuid4(), free_port()
    place = "transact_after_charge"
    with transacting(settings, port, ORDERLY_FAILPOINT=place) as dying:
        # From then on it knows that nobody waits for the provider, and pays aside.
        eventually(lambda: is_ready(f"http://127.0.0.1:{port}"))
        write(databases, [requested(databases.settings, made)])
        assert status_of(dying) == EXIT_STATUS
    assert query(databases.as_owner(), OPEN) == [("fraud_police", "waiting", None)]
    assert outside.charges == {str(made): 1}

    async def story() -> None:
        async with paying(settings) as payer:
            await comes_to(payer, str(made), COMPLETE[:3])
            assert (await settle(payer, str(made), "PAYMENT_FAILED")).status_code == HTTPStatus.OK
            with databases.as_owner() as owner:
                owner.execute(END_LEASES)
            await until(found)

    async def found() -> bool:
        return [each[:2] for each in query(databases.as_owner(), OPEN)] == [
            ("payment_provider", "parked")
        ]

    asyncio.run(story())
    [(_, _, reason)] = query(databases.as_owner(), OPEN)
    assert "the provider says PAYMENT_COMPLETE" in reason
    assert outside.charges == {str(made): 1}


async def only_cleared(settings: PaymentSettings, payments: int) -> list[str]:
    """Transactions that are CLEARED while the provider is left alone; nothing else is to be paid.

    Those that found out that he is away are initiated, and a person says that they have failed.
    """
    async with paying(settings) as payer:
        made = await find_the_provider_away(payer)
        made += await pay_together(payer, payments)
        cleared = []
        for each in made[-payments:]:
            await comes_to(payer, each, COMPLETE[:2])
        for each in made:
            if await payer.history(each) == COMPLETE[:2]:
                cleared.append(each)
            else:
                assert (await settle(payer, each, "PAYMENT_FAILED")).status_code == HTTPStatus.OK
        return cleared


def check(databases: Databases, settings: Settings, outside: Outside) -> None:
    """Whoever is complete was charged once, and nobody else was."""
    found = query(databases.as_owner(), STATUSES)
    complete = {str(each) for each, topic in found if topic == "transaction.payment_complete"}
    assert outside.charges == dict.fromkeys(complete, 1)
    reactions = [TRANSACTIONS, TRANSACTION_AGES]
    assert verify(settings, SYSTEM.aggregates, [], reactions=reactions, say=lambda _: None) == []


@pytest.mark.parametrize("seed", SEEDS)
def test_whoever_repeats_after_a_death_is_told_of_the_same_transaction(
    databases: Databases, outside: Outside, free_port: Callable[[], int], seed: int
) -> None:
    settings, port, key = settings_of(databases, outside), free_port(), uuid4().hex
    amount = f"{seed + 1}.00"

    def pay(port: int) -> httpx.Response:
        url = f"http://127.0.0.1:{port}/transact"
        return httpx.post(url, json=payment(amount), headers={"Idempotency-Key": key})

    with transacting(settings, port, ORDERLY_FAILPOINT="transact_after_append") as dying:

        def is_unanswered() -> bool:
            try:
                pay(port)
            except httpx.ConnectError:
                return dying.exitcode is not None
            except httpx.TransportError:
                return True
            raise AssertionError("it was answered")

        eventually(is_unanswered)
        assert status_of(dying) == EXIT_STATUS
        end_leases(databases)
    with transacting(settings, port):
        answers: list[httpx.Response] = []

        def is_paid() -> bool:
            try:
                answers.append(pay(port))
            except httpx.ConnectError:
                return False
            assert answers[-1].status_code in {200, 202}
            return answers[-1].status_code == 200

        eventually(is_paid)
        eventually(lambda: query(databases.as_owner(), OPEN) == [])
    assert {answer.headers["Idempotent-Replayed"] for answer in answers} == {"true"}
    assert len(query(databases.as_owner(), STATUSES)) == 1
    check(databases, settings, outside)
