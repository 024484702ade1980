"""A card, or a client, with 20,000 payments: the next one costs no more than that of any other."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import Connection

from codebase.engine.commands.fingerprint import Content, Fingerprints
from codebase.engine.commands.log_connection import LogConnection, LogStanding
from codebase.engine.commands.stream_reader import ROWS_PER_PAGE, StreamReader
from codebase.engine.commands.submission import Submission
from codebase.engine.log.codec import encode
from codebase.engine.log.identifiers import partition_of
from codebase.model.actor import Actor
from codebase.model.payments.card_check import CARD_CHECK, Assess, decide, id_of_card
from codebase.model.payments.cards import Card
from codebase.model.payments.fraud_features import HISTORY_MAX, STRICT_MAX, Features, Payment
from codebase.views.payments import fraud_past
from codebase.views.payments.fraud_rules_file import read_rules_file
from tests.databases import PARTITIONS
from tests.integration.test_event_log import rows_read
from tests.integration.test_pages import blocks, nodes, plan

if TYPE_CHECKING:
    from tests.databases import Databases

MANY, FEW = 20_000, 20
NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)
RULES = read_rules_file(None)

GROW = """
    INSERT INTO event (partition, position, stream_id, category, version, type, idempotence_key,
                       data, meta, recorded_at)
    SELECT head.partition, head.position + version - %(after)s, %(stream)s, 'card_check', version,
           'TransactionAssessed', 'key ' || version, %(data)s::jsonb,
           jsonb_build_object('actor', 'shop', 'causation_id', version::text,
                              'event_id', gen_random_uuid(), 'fingerprint', %(fingerprint)s::text),
           now() + version * interval '1 microsecond'
    FROM log_head AS head, generate_series(%(after)s + 1, %(until)s) AS version
    WHERE head.partition = %(partition)s
"""
# Of everybody else there is much more than that.
FILL = """
    INSERT INTO fraud_payment (id, version, client, as_of, amount, currency, partition, position)
    SELECT %(card)s, number, %(client)s, %(noon)s - number * interval '1 second', 1, 'INR', 0,
           %(begin)s + number
    FROM generate_series(1, %(count)s) AS number
"""


def payment_of(name: str) -> Payment:
    return Payment(
        client=name,
        method="amazonpay",
        kind="wallet",
        card=Card(brand="visa", last_four="1111", luhn=True, fingerprints=(f"k:{name}",)),
        amount=Decimal("123.00"),
        currency="INR",
        cost=Decimal("123.00"),
        cost_currency="INR",
    )


def assess(payment: Payment) -> Assess:
    return Assess(
        transaction_id=str(uuid4()),
        payment=payment,
        as_of=NOON,
        features=Features(),
        positions={},
        rules=RULES,
    )


def grow(databases: Databases, payment: Payment, until: int, after: int = 0) -> None:
    """Let a card have been judged so many times."""
    [event] = decide(assess(payment), None)
    stream = id_of_card(payment.card)
    values = {
        "partition": partition_of(stream, PARTITIONS),
        "stream": stream,
        "after": after,
        "until": until,
        "data": encode(event),
        "fingerprint": Fingerprints.configured(databases.settings).of(Content(b"1")),
    }
    with databases.as_owner() as owner:
        owner.execute(GROW, values)


def test_a_card_that_paid_20000_times_is_judged_from_what_came_since(
    databases: Databases,
) -> None:
    """Once its stream was read: the state is kept, and bounded."""
    busy, calm = payment_of("busy"), payment_of("calm")
    standing = LogStanding()
    log, reader = LogConnection(databases.settings, standing), StreamReader(standing)

    async def read(payment: Payment) -> tuple[int, Any, int]:
        stream: UUID = id_of_card(payment.card)
        submission = Submission(
            aggregate=CARD_CHECK,
            stream_id=stream,
            command=assess(payment),
            idempotence_key=str(uuid4()),
            content=Content(b"1"),
            actor=Actor("shop"),
            command_id="test",
        )
        before = await log.do(rows_read)
        streams = await reader.read(log, [stream], [submission], {"card_check": CARD_CHECK})
        rows, history = await log.do(rows_read) - before, streams[stream]
        return rows, history.states[history.version], history.version

    async def story() -> None:
        for _ in range(10):
            await read(payment_of(str(uuid4())))
        grow(databases, busy, MANY)
        grow(databases, calm, FEW)
        cold, _, _ = await read(busy)
        assert cold < MANY + 2 * MANY // ROWS_PER_PAGE
        rows_calm, _, _ = await read(calm)
        for after in range(MANY, MANY + 3):
            grow(databases, busy, after + 1, after=after)
            rows, state, version = await read(busy)
            assert version == after + 1
            assert rows <= rows_calm
            assert len(state.times) == STRICT_MAX
        await log.close()

    asyncio.run(story())


@pytest.fixture(scope="module")
def store(new_databases: Callable[[], Databases]) -> Iterator[Connection[Any]]:
    made = new_databases()
    begin = 0
    with made.as_read_model_owner() as owner:
        for name, count in (("busy", MANY), ("full", HISTORY_MAX), ("calm", FEW)):
            values = {
                "card": id_of_card(payment_of(name).card),
                "client": name,
                "noon": NOON,
                "begin": begin,
                "count": count,
            }
            owner.execute(FILL, values)
            begin += count
        owner.execute("VACUUM (ANALYZE) fraud_payment")
    with psycopg.connect(made.settings.required("read_model_url"), autocommit=True) as connection:
        connection.execute("SET plan_cache_mode = force_generic_plan")
        yield connection


def looked_at(store: Connection[Any], name: str) -> tuple[int, int]:
    """(payments that are looked at, blocks that are touched for them) of a card and its client."""
    asked = [fraud_past.asked(payment_of(name), NOON + timedelta(seconds=1), RULES.windows)]
    arguments = dict(zip(fraud_past.ARGUMENTS, map(list, zip(*asked, strict=True)), strict=True))
    found = plan(store, fraud_past.QUERY, arguments)
    scans = [node for node in nodes(found) if node.get("Relation Name") == "fraud_payment"]
    assert {node["Node Type"] for node in scans} == {"Index Scan"}, json.dumps(found)
    return sum(int(node["Actual Rows"]) for node in scans), blocks(found)


def test_no_more_is_looked_at_than_the_newest_thousand_however_many_there_are(
    store: Connection[Any],
) -> None:
    assert looked_at(store, "calm")[0] == 2 * FEW
    rows_full, blocks_full = looked_at(store, "full")
    rows_busy, blocks_busy = looked_at(store, "busy")
    assert rows_full == rows_busy == 2 * HISTORY_MAX
    # A deeper index has a level more, once for each of both.
    assert blocks_busy <= 1.1 * blocks_full
