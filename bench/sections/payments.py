"""Payments by card: how many a second come to their end, and what an outage costs."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Iterator
from statistics import median
from typing import Any

from psycopg import Connection

from bench.lab import Lab, as_owner, changed
from bench.load import pay_by_card, put_orders
from bench.measure import BenchError, alternate
from bench.report import Result, at_least, below
from codebase.foundation.keys import new_key
from codebase.foundation.settings import extended
from codebase.views.payments.settings import PaymentSettings

CONNECTIONS = 64
ROUNDS = 4
RUN_SECONDS = 2
DARK_SECONDS = 5
DARK_CONNECTIONS = 16
WAITING = 1_000
POLL_SECONDS = 0.02
PATIENCE_SECONDS = 120.0

ADOPT = "SELECT reaction.adopt()"
READ_END = "SELECT position FROM log_head WHERE partition = 0"
# By the log's own clock: what is asked in order to see the end takes time as well, and the more,
# the longer the log is.
READ_COMPLETED = """
    SELECT count(*) / extract(epoch FROM max(completed.recorded_at) - (
        SELECT min(recorded_at) FROM event
        WHERE partition = 0 AND position > %(after)s AND type = 'TransactionRequested'
    ))::float8
    FROM event AS completed
    WHERE partition = 0 AND position > %(after)s AND type = 'PaymentCompleted'
"""
COUNT_COMPLETE = "SELECT count(*) FROM event WHERE type = 'PaymentCompleted'"
COUNT_OPEN = "SELECT count(*) FROM reaction.intent WHERE ended_at IS NULL"
COUNT_REQUESTED = "SELECT count(*) FROM event WHERE type = 'TransactionRequested'"


def measure(lab: Lab) -> Iterator[Result]:
    """Every row about payments."""
    settings = lab.stores("payments")
    port = lab.ports.free_port()
    outside = lab.start(settings, ["bench.stand_ins", "outside", str(port)], port)
    paying = changed(
        extended(settings, PaymentSettings),
        fraud_police_url=outside,
        payment_provider_url=outside,
        card_keys=(new_key("c1"),),
    )
    with as_owner(settings, "write_model") as owner:
        # The stores of a lab are clones, which act only when they are told to.
        owner.execute(ADOPT)
        prices = lab.serve(settings, "btc_price")
        orders = lab.serve(changed(settings, btc_price_url=prices), "create_buy_order")
        address = lab.serve(paying, "transact")
        yield from _completed(lab, address, orders, owner)
        yield from _dark(lab, address, outside, owner)


def _completed(lab: Lab, address: str, orders: str, owner: Connection[Any]) -> Iterator[Result]:
    seconds = lab.effort.seconds(RUN_SECONDS)
    p99s: list[float] = []

    def paid() -> float:
        after = _count(owner, READ_END)
        answers = pay_by_card(address, connections=CONNECTIONS, seconds=seconds).all_good()
        p99s.append(answers.p99_ms)
        _until_done(owner)
        [(per_second,)] = owner.execute(READ_COMPLETED, {"after": after}).fetchall()
        return float(per_second)

    def placed() -> float:
        return put_orders(orders, connections=CONNECTIONS, seconds=seconds).all_good().per_second

    if lab.effort.warms_up:
        paid()
        placed()
        p99s.clear()
    numbers = alternate(lab.effort.rounds(ROUNDS), {"paid": paid, "placed": placed})
    yield Result(name="transactions to PAYMENT_COMPLETE", value=numbers.median("paid"), unit="/s")
    yield Result(name="  beside it: PUT /buy_order", value=numbers.median("placed"), unit="/s")
    yield Result(
        name="transactions to PAYMENT_COMPLETE ÷ PUT /buy_order",
        value=numbers.ratio("paid", "placed"),
        unit="ratio",
        target=at_least(0.12),
    )
    yield Result(
        name=f"POST /transact p99, {CONNECTIONS} connections",
        value=median(p99s),
        unit="ms",
        target=below(250),
    )
    yield Result(name="  beside it: in the slowest round", value=max(p99s), unit="ms", together=max)


def _dark(lab: Lab, address: str, outside: str, owner: Connection[Any]) -> Iterator[Result]:
    """The fraud police takes requests and says nothing, then answers again."""
    wanted, waiting = lab.effort.count(WAITING), 0
    before = _count(owner, COUNT_REQUESTED)
    slowest = 0.0
    _tell(outside, "PUT")
    while waiting < wanted:
        answers = pay_by_card(
            address, connections=DARK_CONNECTIONS, seconds=lab.effort.seconds(DARK_SECONDS)
        ).all_good()
        slowest = max(slowest, answers.p99_ms)
        waiting = _count(owner, COUNT_REQUESTED) - before
    _tell(outside, "DELETE")
    began = time.perf_counter()
    _until_done(owner)
    took = time.perf_counter() - began
    yield Result(
        name="202 with the fraud police black-holed: p99",
        value=slowest,
        unit="ms",
        target=below(400),
    )
    yield Result(
        name=f"{WAITING:,} PENDING completed after it is back",
        value=took * wanted / waiting,
        unit="s",
        target=below(5),
    )


def _count(owner: Connection[Any], statement: str) -> int:
    row = owner.execute(statement.encode()).fetchone()
    return int(row[0]) if row else 0


def _until_done(owner: Connection[Any]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    # What is open is asked first, for it costs least.
    while _count(owner, COUNT_OPEN) or (
        _count(owner, COUNT_COMPLETE) < _count(owner, COUNT_REQUESTED)
    ):
        if time.monotonic() > deadline:
            raise BenchError("transactions do not come to their end")
        time.sleep(POLL_SECONDS)


def _tell(outside: str, method: str) -> None:
    request = urllib.request.Request(f"{outside}/silence", method=method)  # noqa: S310 - our own
    with urllib.request.urlopen(request):  # noqa: S310 - the same
        pass
