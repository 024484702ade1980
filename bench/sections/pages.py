"""GET /buy_orders, beside a constant answer, a million rows deep, and beside OFFSET."""

from __future__ import annotations

import random
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from psycopg import Connection

from bench.lab import Effort, Lab, as_owner
from bench.load import get_pages
from bench.measure import alternate
from bench.report import Result, at_least, at_most
from codebase.foundation.settings import Settings

ROWS = 1_100_000
DEEP = 1_000_000
DEEP_PAGES = 200
PAGE_SIZE = 10
FIRST_PAGE = f"/buy_orders?page_size={PAGE_SIZE}"

CONNECTIONS = 64
ROUNDS = 3
RUN_SECONDS = 2
WARM_UP_SECONDS = 1
DEEP_ROUNDS = 7
DEEP_RUN_SECONDS = 1
OFFSET_RUNS = 3

# In the order of time, as a projector inserts them; ids are random, as they are in operation.
FILL_ORDERS = """
    INSERT INTO buy_order (id, client, placed_at, currency, currency_amount, btc_rate, btc_amount,
                           price_source)
    SELECT gen_random_uuid(), 'local', now() - (%(rows)s - number) * interval '1 millisecond',
           'EUR', 123.45, 48478.88, 0.00254647, 'coinbase'
    FROM generate_series(1, %(rows)s) AS number
"""
READ_DEEP_REFERENCES = """
    SELECT id FROM buy_order ORDER BY placed_at DESC, id DESC OFFSET %(deep)s LIMIT %(pages)s
"""
# The service's query in the form that it does without.
OFFSET_PAGE = """
    SELECT id, placed_at, currency, round(currency_amount, 2)::text, round(btc_rate, 8)::text,
           round(btc_amount, 8)::text, price_source
    FROM buy_order
    ORDER BY placed_at DESC, id DESC
    OFFSET %(offset)s
    LIMIT %(size)s
"""


def measure(lab: Lab) -> Iterator[Result]:
    """Every row about pages."""
    settings = lab.stores("pages")
    with as_owner(settings, "read_model") as owner:
        owner.execute(FILL_ORDERS, {"rows": lab.effort.count(ROWS)})
        owner.execute("VACUUM (ANALYZE) buy_order")
        service = lab.serve(settings, "fetch_buy_orders")
        first, deep = _paths(lab, [None]), _paths(lab, _deep_references(owner, lab))
        yield from _beside_a_constant(lab, settings, service, first)
        yield from _deep_beside_first(service, first, deep, lab.effort)
        yield from _by_offset(owner, lab)


def _deep_references(owner: Connection[Any], lab: Lab) -> list[str | None]:
    place = {"deep": lab.effort.count(DEEP), "pages": lab.effort.count(DEEP_PAGES)}
    rows = owner.execute(READ_DEEP_REFERENCES, place).fetchall()
    references: list[str | None] = [str(row[0]) for row in rows]
    # Not in the order of the index, so that one page does not warm the next.
    random.Random(0).shuffle(references)  # noqa: S311 - an order that is the same every time
    return references


def _paths(lab: Lab, references: list[str | None]) -> Path:
    """A file with the paths of the pages after `references`."""
    path = lab.folder / f"paths-{len(references)}"
    after = (f"&last_reference={reference}" if reference else "" for reference in references)
    path.write_text("".join(f"{FIRST_PAGE}{each}\n" for each in after), encoding="ascii")
    return path


def _beside_a_constant(lab: Lab, settings: Settings, service: str, first: Path) -> Iterator[Result]:
    with urllib.request.urlopen(service + FIRST_PAGE, timeout=10) as answer:  # noqa: S310 - ours
        content = lab.folder / "page.json"
        content.write_bytes(answer.read())
    port = lab.ports.free_port()
    constant = lab.start(settings, ["bench.stand_ins", "get", str(port), str(content)], port)

    def per_second(address: str, seconds: float) -> float:
        answers = get_pages(address, first, connections=CONNECTIONS, seconds=seconds)
        return answers.all_good().per_second

    if lab.effort.warms_up:
        for address in (service, constant):
            per_second(address, WARM_UP_SECONDS)
    run_seconds = lab.effort.seconds(RUN_SECONDS)
    numbers = alternate(
        lab.effort.rounds(ROUNDS),
        {
            "page": lambda: per_second(service, run_seconds),
            "constant": lambda: per_second(constant, run_seconds),
        },
    )
    yield Result(name=f"GET {FIRST_PAGE}", value=numbers.median("page"), unit="/s")
    yield Result(
        name="  beside it: the same route answering a constant of the same size",
        value=numbers.median("constant"),
        unit="/s",
    )
    yield Result(
        name=f"GET {FIRST_PAGE} ÷ the same route answering a constant",
        value=numbers.ratio("page", "constant"),
        unit="ratio",
        target=at_least(0.4),
    )


def _deep_beside_first(service: str, first: Path, deep: Path, effort: Effort) -> Iterator[Result]:
    seconds = effort.seconds(DEEP_RUN_SECONDS)

    def p50_ms(paths: Path) -> float:
        answers = get_pages(service, paths, connections=1, seconds=seconds)
        return answers.all_good().p50_ms

    if effort.warms_up:
        p50_ms(deep)
    numbers = alternate(
        effort.rounds(DEEP_ROUNDS), {"first": lambda: p50_ms(first), "deep": lambda: p50_ms(deep)}
    )
    yield Result(name="first page, p50", value=numbers.median("first"), unit="ms")
    yield Result(name=f"page {DEEP:,} rows deep, p50", value=numbers.median("deep"), unit="ms")
    yield Result(
        name=f"page {DEEP:,} rows deep ÷ first page",
        value=numbers.ratio("deep", "first"),
        unit="ratio",
        target=at_most(1.2),
    )


def _by_offset(owner: Connection[Any], lab: Lab) -> Iterator[Result]:
    far = lab.effort.count(DEEP)

    def p50_ms(offset: int) -> float:
        return median(_offset_page_ms(owner, offset) for _ in range(OFFSET_RUNS))

    p50_ms(far)
    deep, first = p50_ms(far), p50_ms(0)
    yield Result(name=f"  beside it: OFFSET {DEEP:,}, its query alone", value=deep, unit="ms")
    yield Result(name="  beside it: OFFSET form, deep ÷ first", value=deep / first, unit="ratio")


def _offset_page_ms(owner: Connection[Any], offset: int) -> float:
    started = time.perf_counter()
    owner.execute(OFFSET_PAGE, {"offset": offset, "size": PAGE_SIZE}).fetchall()
    return (time.perf_counter() - started) * 1000
