"""The fraud police: what it takes to look at the past, to judge, and to try other rules."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

from psycopg import Connection

from bench.lab import Lab, as_owner
from bench.measure import BenchError, alternate, percentile, seconds
from bench.report import Result, at_least, at_most, below
from codebase.foundation.postgres import connect
from codebase.foundation.settings import Settings
from codebase.foundation.validation import adapter
from codebase.model.payments.card_check import id_of_card
from codebase.model.payments.cards import Card
from codebase.model.payments.fraud_features import HISTORY_MAX, Features, Payment
from codebase.model.payments.fraud_judgement import judge
from codebase.views.payments import fraud_past
from codebase.views.payments.fraud_backtest import backtest
from codebase.views.payments.fraud_rules_file import read_rules_file

MANY, FEW = 1_000_000, 10_000
OF_A_CLIENT = 100
"""Payments of each client, all by one card."""
LOOKS = 500
FEATURE_ROUNDS = 15
ROUNDS = 5
DECISIONS = 50_000
TRIED = 40_000
NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)
RULES = read_rules_file(None)

# A client's payments lie all over the table, and all over a day.
FILL_PAYMENTS = """
    INSERT INTO fraud_payment (id, version, client, as_of, amount, currency, partition, position)
    SELECT (%(cards)s::uuid[])[1 + number %% %(clients)s], number,
           'client ' || number %% %(clients)s,
           %(noon)s - number * interval '1 day' / %(payments)s, 123.00, 'INR', 0, number
    FROM generate_series(1, %(payments)s) AS number
"""
FILL_BUSY = """
    INSERT INTO fraud_payment (id, version, client, as_of, amount, currency, partition, position)
    SELECT md5('busy' || number %% 1000)::uuid, number, 'busy',
           %(noon)s - number * interval '1 second', 123.00, 'INR', 0, number
    FROM generate_series(1, %(payments)s) AS number
"""
FILL_DECISIONS = """
    INSERT INTO fraud_decision (id, version, transaction_id, client, as_of, denied, decided_by,
                                score, rules, payment, features, findings, hits, partition,
                                position)
    SELECT gen_random_uuid(), 1, gen_random_uuid(), 'client',
           %(noon)s - number * interval '1 second',
           false, 'rules', 10, '', %(payment)s::text::jsonb, %(features)s::text::jsonb, '[]', '{}',
           0, number
    FROM generate_series(1, %(decisions)s) AS number
"""


def payment_of(client: str) -> Payment:
    """A payment of the documents' amount, by the client's one card."""
    return Payment(
        client=client,
        method="amazonpay",
        kind="wallet",
        card=Card(brand="visa", last_four="1111", luhn=True, fingerprints=(f"k:{client}",)),
        amount=Decimal("123.00"),
        currency="INR",
        cost=Decimal("123.00"),
        cost_currency="INR",
    )


def measure(lab: Lab) -> Iterator[Result]:
    """Features, rules, and a backtest."""
    yield from _measure_features(lab)
    yield _measure_rules(lab)
    yield _measure_backtest(lab)


def _measure_features(lab: Lab) -> Iterator[Result]:
    many, few = lab.stores("many_payments"), lab.stores("few_payments")
    _fill(many, lab.effort.count(MANY))
    _fill(few, lab.effort.count(FEW))
    looks = lab.effort.count(LOOKS)
    with (
        connect(many.required("read_model_url"), "bench") as in_many,
        connect(few.required("read_model_url"), "bench") as in_few,
    ):
        sides = {
            "many": partial(_look_ms, in_many, "client {}", looks),
            "few": partial(_look_ms, in_few, "client {}", looks),
            "busy": partial(_look_ms, in_many, "busy", looks),
        }
        if lab.effort.warms_up:
            # A new connection pays for the plan, and for every page that it meets.
            for look in sides.values():
                look()
        numbers = alternate(lab.effort.rounds(FEATURE_ROUNDS), sides)
    name = f"fraud features, one round trip, {MANY:,} payments stored"
    yield Result(name=f"{name}, p99", value=numbers.median("many"), unit="ms", target=below(5))
    yield Result(name=f"  beside it: {FEW:,} stored", value=numbers.median("few"), unit="ms")
    yield Result(
        name=f"  beside it: a client with more than {HISTORY_MAX:,} in the window, p99",
        value=numbers.median("busy"),
        unit="ms",
    )
    yield Result(
        name=f"{name} ÷ {FEW:,} stored, p99",
        value=numbers.ratio("many", "few"),
        unit="ratio",
        target=at_most(1.3),
    )


def _fill(settings: Settings, payments: int) -> None:
    with as_owner(settings, "read_model") as owner:
        clients = max(1, payments // OF_A_CLIENT)
        cards = [id_of_card(payment_of(f"client {each}").card) for each in range(clients)]
        values = {"payments": payments, "clients": clients, "cards": cards, "noon": NOON}
        owner.execute(FILL_PAYMENTS, values)
        owner.execute(FILL_BUSY, {"payments": 2 * HISTORY_MAX, "noon": NOON})
        owner.execute("VACUUM (ANALYZE) fraud_payment")


def _look_ms(store: Connection[Any], client: str, looks: int) -> float:
    """The 99th percentile of so many looks, one after the other, each at another client."""
    times = []
    with store.cursor(binary=True) as cursor:
        for number in range(looks):
            payment = payment_of(client.format(number % OF_A_CLIENT))
            asked = fraud_past.asked(payment, NOON, RULES.windows)
            arguments = {
                name: [value] for name, value in zip(fraud_past.ARGUMENTS, asked, strict=True)
            }
            started = time.perf_counter()
            cursor.execute(fraud_past.QUERY, arguments, prepare=True).fetchall()
            times.append(1000 * (time.perf_counter() - started))
    return percentile(times, 99)


def _measure_rules(lab: Lab) -> Result:
    payment, features, decisions = payment_of("client"), _features(), lab.effort.count(DECISIONS)

    def work() -> None:
        for _ in range(decisions):
            judge(RULES, payment, features)

    numbers = alternate(lab.effort.rounds(ROUNDS), {"rules": lambda: decisions / seconds(work)})
    return Result(
        name=f"fraud rules without I/O, {len(RULES.rules)} of them",
        value=numbers.median("rules"),
        unit="decisions/s",
        target=at_least(50_000),
    )


def _features() -> Features:
    windows = {str(each): [9, 9, "1107.00", 1, 9, "1107.00", 1, 1] for each in RULES.windows}
    strict = {str(each): 9 for each in RULES.strict_windows}
    features: Features = adapter(Features).validate_python({"windows": windows, "strict": strict})
    return features


def _measure_backtest(lab: Lab) -> Result:
    settings, decisions = lab.stores("backtest"), lab.effort.count(TRIED)
    with as_owner(settings, "read_model") as owner:
        values = {
            "noon": NOON,
            "decisions": decisions,
            "payment": adapter(Payment).dump_json(payment_of("client")).decode(),
            "features": adapter(Features).dump_json(_features()).decode(),
        }
        owner.execute(FILL_DECISIONS, values)
        owner.execute("VACUUM (ANALYZE) fraud_decision")

    def work() -> None:
        found = backtest(settings, RULES, NOON - timedelta(days=36_500), NOON)
        if found.transactions != decisions:
            raise BenchError(f"{found.transactions} transactions were tried of {decisions}")

    numbers = alternate(lab.effort.rounds(ROUNDS), {"rate": lambda: decisions / seconds(work)})
    return Result(
        name="fraud backtest",
        value=numbers.median("rate"),
        unit="transactions/s",
        target=at_least(20_000),
    )
