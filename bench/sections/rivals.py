"""PUT /buy_order beside frameworks that one would use for it, on the same Postgres."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from bench import message_db
from bench.lab import PASSWORD, PROJECT, Lab, changed
from bench.load import put_orders
from bench.measure import BenchError, alternate
from bench.report import Result
from codebase.embedded.databases import OWNER

CONNECTIONS = 64
ROUNDS = 2
RUN_SECONDS = 3
POOL = 40
"""Connections to Postgres of each rival, as many as FastAPI has threads; ours has a handful."""
CHART = f"PUT /buy_order, durable, {CONNECTIONS} clients, one process"
PYTHON = PROJECT / ".venv-rivals" / "bin" / "python"
APPS = PROJECT / "bench" / "rival_apps"
NAMES = {
    "ours": "PUT /buy_order",
    "python-cqrs": "python-cqrs with its outbox, over FastAPI",
    "protean": "Protean on message-db, over FastAPI",
}


def measure(lab: Lab) -> Iterator[Result]:
    """Ours, python-cqrs, and Protean where message-db could be installed."""
    if not PYTHON.exists():
        raise BenchError(f"no {PYTHON}: ./bench.sh makes the environment of the rivals")
    settings = lab.stores("beside_rivals")
    prices = lab.serve(settings, "btc_price")
    priced = changed(settings, btc_price_url=prices)
    addresses = {"ours": lab.serve(priced, "create_buy_order")}
    lab.write.create("python_cqrs")
    addresses["python-cqrs"] = _serve(lab, "python_cqrs")
    if message_db.is_installed():
        message_db.install(lab, "protean_on_message_db")
        addresses["protean"] = _serve(lab, "protean_on_message_db")
    sides = {side: partial(_puts, address) for side, address in addresses.items()}
    for warm_up in sides.values():
        warm_up()
    numbers = alternate(lab.effort.rounds(ROUNDS), sides)
    for side in sides:
        name = NAMES[side] if side == "ours" else f"  beside it: {NAMES[side]}"
        yield Result(name=name, value=numbers.median(side), unit="/s", chart=CHART)
    for side in list(sides)[1:]:
        yield Result(
            name=f"{NAMES['ours']} ÷ {NAMES[side]}",
            value=numbers.ratio("ours", side),
            unit="ratio",
        )


def _puts(address: str) -> float:
    return put_orders(address, connections=CONNECTIONS, seconds=RUN_SECONDS).all_good().per_second


def _serve(lab: Lab, name: str) -> str:
    """Serve one of the rivals on a database of its name; its address."""
    port = lab.ports.free_port()
    place = f"127.0.0.1:{lab.write.port}/{name}"
    command: list[str | Path] = [
        PYTHON,
        APPS / f"{name}.py",
        str(port),
        place,
        OWNER,
        PASSWORD,
        str(POOL),
    ]
    return lab.run(command, os.environ, port)
