"""PUT /buy_order, beside the same route without storage and beside plain inserts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from psycopg import Connection

from bench import pgbench
from bench.filling import Column, columns_of
from bench.lab import Lab, as_owner, changed
from bench.load import put_orders
from bench.measure import BenchError, alternate
from bench.report import Result, at_least

CONNECTIONS = 64
ROUNDS = 9
RUN_SECONDS = 1

CREATE_RIVAL = "CREATE TABLE rival (LIKE event INCLUDING ALL)"
CREATE_RIVAL_SEQUENCE = "CREATE SEQUENCE rival_position"
READ_LAST_EVENT = "SELECT to_jsonb(event) FROM event LIMIT 1"
CLOSE_ORDER_BOOK = "SELECT set_budget_limit(name, 0) FROM budget"
OPEN_ORDER_BOOK = "SELECT set_budget_limit(name, %(limit)s) FROM budget"

NEW = {
    "position": "nextval('rival_position')",
    "stream_id": "gen_random_uuid()",
    "idempotence_key": "gen_random_uuid()::text",
    "recorded_at": "now()",
}
"""What differs from order to order, as SQL."""


def measure(lab: Lab) -> Iterator[Result]:
    """Every row about PUT."""
    settings = lab.stores("put")
    prices = lab.serve(settings, "btc_price")
    settings = changed(settings, btc_price_url=prices)
    service = lab.serve(settings, "create_buy_order")
    two_processes = lab.serve(changed(settings, service_processes=2), "create_buy_order")
    port = lab.ports.free_port()
    stand_in = lab.start(settings, ["bench.stand_ins", "put", str(port)], port)
    seconds = lab.effort.seconds(RUN_SECONDS)
    # pgbench copies one of the orders that are placed now.
    for address in (service, two_processes, stand_in) if lab.effort.warms_up else (service,):
        put_orders(address, connections=CONNECTIONS, seconds=seconds).all_good()

    with as_owner(settings, "write_model") as owner:
        numbers = alternate(
            lab.effort.rounds(ROUNDS),
            {
                "fresh": lambda: _puts(service, seconds),
                "two processes": lambda: _puts(two_processes, seconds),
                "without storage": lambda: _puts(stand_in, seconds),
                "pgbench": _pgbench(lab, owner),
                "half repeats": lambda: _puts(service, seconds, repeated=0.5),
                "order book full": lambda: _puts_into_full_book(service, seconds, owner),
            },
        )
    yield Result(name="durable PUT /buy_order", value=numbers.median("fresh"), unit="/s")
    for side, unit in (
        ("two processes", "/s"),
        ("without storage", "/s"),
        ("pgbench", "rows/s"),
        ("half repeats", "/s"),
        ("order book full", "/s"),
    ):
        yield Result(name=f"  beside it: {NAMES[side]}", value=numbers.median(side), unit=unit)
    for side, bound in (("without storage", 0.75), ("pgbench", 0.42)):
        yield Result(
            name=f"durable PUT ÷ {NAMES[side]}",
            value=numbers.ratio("fresh", side),
            unit="ratio",
            target=at_least(bound),
        )
    yield Result(
        name=f"PUT, two processes ÷ {NAMES['pgbench']}",
        value=numbers.ratio("two processes", "pgbench"),
        unit="ratio",
        target=at_least(0.5),
    )
    for side, bound in (("half repeats", 0.85), ("order book full", 0.75)):
        yield Result(
            name=f"PUT, {NAMES[side]} ÷ all fresh",
            value=numbers.ratio(side, "fresh"),
            unit="ratio",
            target=at_least(bound),
        )


NAMES = {
    "two processes": "two processes on one port",
    "without storage": "the same route without storage",
    "pgbench": f"single-row inserts by pgbench, {pgbench.CLIENTS} clients",
    "half repeats": "half of them repeats",
    "order book full": "order book full (409)",
}


def _puts(address: str, seconds: float, repeated: float = 0) -> float:
    answers = put_orders(address, connections=CONNECTIONS, seconds=seconds, repeated=repeated)
    return answers.all_good().per_second


def _puts_into_full_book(address: str, seconds: float, owner: Connection[Any]) -> float:
    with _full_order_book(owner):
        answers = put_orders(address, connections=CONNECTIONS, seconds=seconds)
    if answers.broken or answers.refused != answers.requests:
        raise BenchError("an order was placed although the order book was full")
    return answers.per_second


@contextmanager
def _full_order_book(owner: Connection[Any]) -> Iterator[None]:
    row = owner.execute("SELECT limit_value FROM budget").fetchone()
    owner.execute(CLOSE_ORDER_BOOK)
    try:
        yield
    finally:
        owner.execute(OPEN_ORDER_BOOK, {"limit": row[0] if row else None})


def _pgbench(lab: Lab, owner: Connection[Any]) -> Callable[[], float]:
    """A run of pgbench that inserts copies of an order into a table like the log."""
    owner.execute(CREATE_RIVAL)
    owner.execute(CREATE_RIVAL_SEQUENCE)
    script = lab.folder / "insert.sql"
    script.write_text(_insert(owner), encoding="utf-8")
    return pgbench.per_second(lab, owner.info.dbname, script, lab.effort.seconds(RUN_SECONDS))


def _insert(owner: Connection[Any]) -> str:
    """One row like the last order, with a position, a stream and a key of its own."""
    columns = columns_of(owner, "event")
    row = owner.execute(READ_LAST_EVENT).fetchone()
    if row is None:
        raise BenchError("the warm-up placed no order")
    values = [NEW.get(column.name) or _literal(row[0][column.name], column) for column in columns]
    names = ", ".join(column.name for column in columns)
    return f"INSERT INTO rival ({names}) VALUES ({', '.join(values)});\n"  # noqa: S608 - a script


def _literal(value: object, column: Column) -> str:
    if value is None:
        return "NULL"
    text = value if isinstance(value, str) else json.dumps(value)
    return f"{pgbench.quoted(text)}::{column.type}"
