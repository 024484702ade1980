"""Processes that die anywhere between a request and its end: each is charged once, none is stuck.

`./test.sh` kills once at each place; `./test.sh torture` with 25 seeds. The provider of these tests
charges whenever it is asked to.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
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
from tests.integration.flow import eventually, meta, query, running, write
from tests.integration.payments import END_LEASES, Outside, outside_open, payment, settings_of
from tests.integration.test_reaction_kills import SEEDS
from tests.patience import PATIENCE_SECONDS
from tests.unit.test_transaction import REQUESTED

if TYPE_CHECKING:
    import subprocess

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
)
STATUSES = """
    SELECT DISTINCT ON (stream_id) stream_id, meta ->> 'topic' FROM event
    WHERE category = 'transaction' ORDER BY stream_id, version DESC
"""
OPEN = "SELECT target, state, reason FROM reaction.intent WHERE ended_at IS NULL"
REMINDERS = "SELECT count(*) FROM reaction.reminder"


@pytest.fixture
def outside(free_port: Callable[[], int]) -> Iterator[Outside]:
    with outside_open(free_port()) as opened:
        yield opened


@contextmanager
def transacting(
    settings: PaymentSettings, port: int, **extra: str
) -> Iterator[subprocess.Popen[bytes]]:
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
    wanted = Wanted()
    wanted.ask(databases, chance)
    with transacting(settings, free_port(), ORDERLY_FAILPOINT=place) as dying:
        assert dying.wait(PATIENCE_SECONDS) == EXIT_STATUS
        with transacting(settings, free_port()):
            wanted.ask(databases, chance)
            with databases.as_owner() as owner:
                # Nobody comes back from the dead: nothing is gained by waiting for his leases.
                owner.execute(END_LEASES)
            eventually(lambda: wanted.are_at_their_ends(databases))
            eventually(lambda: query(databases.as_owner(), OPEN) == [])
            eventually(lambda: query(databases.as_owner(), REMINDERS) == [(0,)])
    check(databases, settings, outside)


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
                return dying.poll() is not None
            except httpx.TransportError:
                return True
            raise AssertionError("it was answered")

        eventually(is_unanswered)
        assert dying.wait(PATIENCE_SECONDS) == EXIT_STATUS
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
