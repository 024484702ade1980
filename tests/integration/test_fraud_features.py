"""What is counted of the past equals what an oracle counts that shares no code with the query."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import Connection

from codebase.model.payments.card_check import id_of_card
from codebase.model.payments.cards import Card
from codebase.model.payments.fraud_features import HISTORY_MAX, Features, Payment, Window
from codebase.views.payments import fraud_past

if TYPE_CHECKING:
    from tests.databases import Databases

HISTORIES = 10_000
WINDOWS = (60, 3_600, 86_400)
NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
# Around both ends of every window, where off by one shows.
MOMENTS = [
    NOON - timedelta(seconds=seconds) + step * MICROSECOND
    for seconds in (0, 30, *WINDOWS)
    for step in (-1, 0, 1)
]
AMOUNTS = [Decimal(text) for text in ("0.01", "0.10", "0.20", "123.00", "999999999.99")]
INSERT_PAYMENT = """
    INSERT INTO fraud_payment (id, version, client, as_of, amount, currency, partition, position)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
"""
INSERT_LISTING = """
    INSERT INTO fraud_listing (id, version, list, kind, value, ends_at, reason, listed_at,
                               position, partition, over_at)
    VALUES (%s, 1, %s, %s, %s, %s, 'a reason', %s, %s, %s, %s)
"""


@dataclass(frozen=True)
class Paid:
    """A payment that was judged."""

    card: Card
    client: str
    as_of: datetime
    amount: Decimal
    currency: str
    partition: int
    position: int


@dataclass(frozen=True)
class OnList:
    """A card or a client on a list, from a position on, up to another."""

    list: str
    kind: str
    value: str
    ends_at: datetime
    partition: int
    position: int
    over_at: int | None


@dataclass(frozen=True)
class History:
    """What was before a payment, and how far the tables are taken to be; None: all of it counts."""

    paid: list[Paid]
    listed: list[OnList]
    payment: Payment
    reached: dict[int, int] | None


@pytest.fixture(scope="module")
def kept_databases(new_databases: Callable[[], Databases]) -> Databases:
    return new_databases()


@pytest.fixture(scope="module")
def store(kept_databases: Databases) -> Iterator[Connection[Any]]:
    """A read model whose every use is rolled back."""
    url = kept_databases.settings.required("read_model_projector_url")
    with psycopg.connect(url) as connection:
        yield connection


def dice(seed: int) -> Random:
    return Random(seed)  # noqa: S311 - histories are no secrets


def a_history(random: Random, number: int) -> History:
    clients = [f"{number}-{letter}" for letter in "abc"]
    cards = [
        Card(brand="visa", last_four="1111", luhn=True, fingerprints=(f"n:{name}", f"o:{name}"))
        for name in (f"{number}x", f"{number}y", f"{number}z")
    ]
    paid = [
        Paid(
            card=random.choice(cards),
            client=random.choice(clients),
            as_of=random.choice(MOMENTS),
            amount=random.choice(AMOUNTS),
            currency=random.choice(("INR", "EUR")),
            partition=random.randrange(3),
            position=random.randrange(1, 9),
        )
        for _ in range(random.randrange(10))
    ]
    payment = Payment(
        client=clients[0],
        method="any",
        kind="wallet",
        card=cards[0],
        amount=random.choice(AMOUNTS),
        currency="INR",
        cost=AMOUNTS[0],
        cost_currency="INR",
    )
    names = [("client", payment.client), ("client", clients[1])]
    names += [("card", each) for card in cards[:2] for each in card.fingerprints]
    # A client may be called what a card is called.
    names += [("client", cards[0].fingerprints[0]), ("card", payment.client)]
    listed = []
    for _ in range(random.randrange(3)):
        kind, value = random.choice(names)
        position = random.randrange(1, 9)
        listed.append(
            OnList(
                list=random.choice(("allow", "block")),
                kind=kind,
                value=value,
                ends_at=random.choice([NOON + step * MICROSECOND for step in (-1, 0, 1)]),
                partition=random.randrange(3),
                position=position,
                over_at=random.choice([None, position + random.randrange(1, 4)]),
            )
        )
    reached = {partition: random.randrange(9) for partition in range(3)}
    return History(paid, listed, payment, random.choice([None, reached]))


def oracle(history: History) -> Features:
    """Counted one by one, as docs/fraud-features.md says."""
    mine, reached = history.payment, history.reached
    seen = [
        one for one in history.paid if reached is None or one.position <= reached[one.partition]
    ]
    windows = {}
    for seconds in WINDOWS:
        past = [one for one in seen if NOON - timedelta(seconds=seconds) <= one.as_of < NOON]
        of_client = [one for one in past if one.client == mine.client]
        of_card = [one for one in past if one.card == mine.card]
        by_client = [one.amount for one in of_client if one.currency == mine.currency]
        by_card = [one.amount for one in of_card if one.currency == mine.currency]
        windows[seconds] = Window(
            client_payments=len(of_client),
            client_in_currency=len(by_client),
            client_sum=sum(by_client, Decimal(0)),
            client_cards=len({one.card for one in of_client} - {mine.card}),
            card_payments=len(of_card),
            card_sum=sum(by_card, Decimal(0)),
            card_clients=len({one.client for one in of_card} - {mine.client}),
            card_same_amount=by_card.count(mine.amount),
        )
    return Features(
        windows=windows, allowed=entry(history, "allow"), blocked=entry(history, "block")
    )


def entry(history: History, name: str) -> str | None:
    mine, reached = history.payment, history.reached
    said = []
    for one in history.listed:
        names = [mine.client] if one.kind == "client" else mine.card.fingerprints
        if reached is None:
            holds = one.over_at is None
        else:
            at = reached[one.partition]
            holds = one.position <= at and (one.over_at is None or one.over_at > at)
        if one.list == name and one.value in names and one.ends_at > NOON and holds:
            said.append(f"{one.kind} until {one.ends_at:%Y-%m-%dT%H:%M:%S.%fZ}")
    return max(said, default=None)


def put(store: Connection[Any], histories: list[History]) -> None:
    paid = [one for history in histories for one in history.paid]
    listed = [one for history in histories for one in history.listed]
    with store.cursor() as cursor:
        cursor.executemany(
            INSERT_PAYMENT,
            [
                (
                    id_of_card(one.card),
                    number,
                    one.client,
                    one.as_of,
                    one.amount,
                    one.currency,
                    one.partition,
                    one.position,
                )
                for number, one in enumerate(paid)
            ],
        )
        cursor.executemany(
            INSERT_LISTING,
            [
                (
                    uuid4(),
                    one.list,
                    one.kind,
                    one.value,
                    one.ends_at,
                    NOON,
                    one.position,
                    one.partition,
                    one.over_at,
                )
                for one in listed
            ],
        )


def looked_up(store: Connection[Any], histories: list[History]) -> list[Features]:
    asked = [fraud_past.asked(one.payment, NOON, WINDOWS, one.reached) for one in histories]
    arguments = dict(zip(fraud_past.ARGUMENTS, map(list, zip(*asked, strict=True)), strict=True))
    rows = sorted(store.execute(fraud_past.QUERY, arguments).fetchall())
    return [fraud_past.features_of(row) for _, *row in rows]


def test_features_equal_those_that_an_oracle_counts_one_by_one(store: Connection[Any]) -> None:
    random = dice(20261128)
    histories = [a_history(random, number) for number in range(HISTORIES)]
    with store.transaction(force_rollback=True):
        put(store, histories)
        for begin in range(0, HISTORIES, 250):
            some = histories[begin : begin + 250]
            for history, found in zip(some, looked_up(store, some), strict=True):
                assert found == oracle(history), history
    expected = [oracle(history) for history in histories]
    assert sum(one.blocked is not None for one in expected) > 100, "there is something to find"
    assert sum(one.windows[60].card_same_amount > 0 for one in expected) > 100


def test_no_more_than_the_newest_count(store: Connection[Any]) -> None:
    card = Card(brand="visa", last_four="1111", luhn=True, fingerprints=("k:one",))
    payment = a_history(dice(1), 1).payment
    paid = [
        Paid(card, payment.client, NOON - number * MICROSECOND, Decimal(number), "INR", 0, number)
        for number in range(1, HISTORY_MAX + 11)
    ]
    with store.transaction(force_rollback=True):
        put(store, [History(paid, [], payment, None)])
        [found] = looked_up(store, [History(paid, [], payment, None)])
    newest = HISTORY_MAX * (HISTORY_MAX + 1) // 2
    assert (found.windows[60].client_payments, found.windows[60].client_sum) == (
        HISTORY_MAX,
        newest,
    )


def read_plan(store: Connection[Any]) -> str:
    payment = a_history(dice(2), 2).payment
    asked = [fraud_past.asked(payment, NOON, WINDOWS)]
    arguments = dict(zip(fraud_past.ARGUMENTS, map(list, zip(*asked, strict=True)), strict=True))
    explained = store.execute(f"EXPLAIN (FORMAT JSON) {fraud_past.QUERY}", arguments).fetchone()
    assert explained is not None
    return json.dumps(explained[0])


FILL_PAYMENTS = """
    INSERT INTO fraud_payment (id, version, client, as_of, amount, currency, partition, position)
    SELECT md5((number % 1000)::text)::uuid, number, 'c' || number % 1000,
           '2026-11-28 12:00+00'::timestamptz - number * interval '1 second', 1, 'INR', 0, number
    FROM generate_series(1, 30000) AS number
"""
FILL_LISTINGS = """
    INSERT INTO fraud_listing (id, version, list, kind, value, ends_at, reason, listed_at,
                               position, partition, over_at)
    SELECT md5(number::text)::uuid, 1, 'block', 'client', 'c' || number,
           '2026-11-28 12:00+00'::timestamptz + number * interval '1 second', 'a reason',
           '2026-11-28 12:00+00', number, 0, NULL
    FROM generate_series(1, 30000) AS number
"""


def test_the_past_is_found_by_indexes_however_much_of_it_there_is(
    kept_databases: Databases,
) -> None:
    """Where Postgres knows how much there is: what it knows to be empty it reads as a whole."""
    with kept_databases.as_read_model_owner() as owner, owner.transaction(force_rollback=True):
        owner.execute(FILL_PAYMENTS)
        owner.execute(FILL_LISTINGS)
        owner.execute("ANALYZE fraud_payment, fraud_listing")
        owner.execute("SET LOCAL plan_cache_mode = force_generic_plan")
        plan = read_plan(owner)
    assert "Seq Scan" not in plan
    assert plan.count('"Index Name": "fraud_payment') >= 2
    assert '"Index Name": "fraud_listing' in plan
