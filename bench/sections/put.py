"""PUT /buy_order, beside the same route without storage and beside plain inserts."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from psycopg import Connection

from bench.lab import OWNER, PASSWORD, Lab, as_owner
from bench.load import put_orders
from bench.measure import BenchError, alternate
from bench.report import Result, at_least

CONNECTIONS = 64
ROUNDS = 5
RUN_SECONDS = 2
WARM_UP_SECONDS = 2

PGBENCH_CLIENTS = 32
PGBENCH_THREADS = 2

CREATE_RIVAL = "CREATE TABLE rival (LIKE event INCLUDING ALL)"
CREATE_RIVAL_SEQUENCE = "CREATE SEQUENCE rival_position"
READ_LAST_EVENT = "SELECT category, type, data::text, meta::text FROM event LIMIT 1"
CLOSE_ORDER_BOOK = "SELECT set_budget_limit(name, 0) FROM budget"
OPEN_ORDER_BOOK = "SELECT set_budget_limit(name, %(limit)s) FROM budget"

# A row of the same columns and sizes; stream and key are new, as they are for every order.
INSERT_SCRIPT = """\
INSERT INTO rival (partition, position, stream_id, category, version, type, idempotence_key,
                   data, meta, recorded_at)
VALUES (0, nextval('rival_position'), gen_random_uuid(), '{category}', 1, '{type}',
        gen_random_uuid()::text, '{data}', '{meta}', now());
"""


def measure(lab: Lab) -> Iterator[Result]:
    """Every row about PUT."""
    settings = lab.stores("put")
    prices = lab.serve(settings, "btc_price")
    settings = settings.model_copy(update={"btc_price_url": prices})
    service = lab.serve(settings, "create_buy_order")
    two_processes = lab.serve(
        settings.model_copy(update={"service_processes": 2}), "create_buy_order"
    )
    port = lab.free_port()
    stand_in = lab.start(settings, ["bench.stand_ins", "put", str(port)], port)
    for address in (service, two_processes, stand_in):
        put_orders(address, connections=CONNECTIONS, seconds=WARM_UP_SECONDS).all_good()

    with as_owner(settings, "write_model") as owner:
        numbers = alternate(
            ROUNDS,
            {
                "fresh": lambda: _puts(service),
                "two processes": lambda: _puts(two_processes),
                "without storage": lambda: _puts(stand_in),
                "pgbench": _pgbench(lab, owner),
                "half repeats": lambda: _puts(service, repeated=0.5),
                "order book full": lambda: _puts_into_full_book(service, owner),
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
    for side, bound in (("without storage", 0.5), ("pgbench", 0.4)):
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
    for side in ("half repeats", "order book full"):
        yield Result(
            name=f"PUT, {NAMES[side]} ÷ all fresh",
            value=numbers.ratio(side, "fresh"),
            unit="ratio",
            target=at_least(0.7),
        )


NAMES = {
    "two processes": "two processes on one port",
    "without storage": "the same route without storage",
    "pgbench": f"single-row inserts by pgbench, {PGBENCH_CLIENTS} clients",
    "half repeats": "half of them repeats",
    "order book full": "order book full (409)",
}


def _puts(address: str, repeated: float = 0) -> float:
    answers = put_orders(address, connections=CONNECTIONS, seconds=RUN_SECONDS, repeated=repeated)
    return answers.all_good().per_second


def _puts_into_full_book(address: str, owner: Connection[Any]) -> float:
    with _full_order_book(owner):
        answers = put_orders(address, connections=CONNECTIONS, seconds=RUN_SECONDS)
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
    row = owner.execute(READ_LAST_EVENT).fetchone()
    if row is None:
        raise BenchError("the warm-up placed no order")
    category, event_type, data, meta = row
    script = lab.folder / "insert.sql"
    script.write_text(
        INSERT_SCRIPT.format(
            category=category, type=event_type, data=_quoted(data), meta=_quoted(meta)
        ),
        encoding="utf-8",
    )
    command = [
        *(_find_pgbench(), "--no-vacuum", "--protocol=prepared", f"--file={script}"),
        *(f"--client={PGBENCH_CLIENTS}", f"--jobs={PGBENCH_THREADS}", f"--time={RUN_SECONDS}"),
        *("--host=127.0.0.1", f"--port={lab.write.port}", f"--username={OWNER}"),
        owner.info.dbname,
    ]

    def run() -> float:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            env={"PATH": "", "PGPASSWORD": PASSWORD},
        )
        found = re.search(r"^tps = ([\d.]+)", done.stdout, re.MULTILINE)
        if done.returncode != 0 or found is None:
            raise BenchError(f"pgbench failed: {done.stderr[-500:]}")
        return float(found[1])

    return run


def _quoted(document: str) -> str:
    # A colon before a letter would be a variable of pgbench's; JSON has another way to write it.
    colonless = re.sub(r":(?=\w)", r"\\u003a", json.dumps(json.loads(document)))
    return colonless.replace("'", "''")


def _find_pgbench() -> str:
    found = shutil.which("pgbench")
    places = [Path("/usr/lib/postgresql"), Path("/usr/local"), Path("/opt/homebrew/opt")]
    found = found or next(
        (str(path) for place in places for path in place.glob("**/bin/pgbench")), None
    )
    if found is None:
        raise BenchError("no pgbench found")
    return found
