"""How soon an order is visible while very many streams are parked, beside when none is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from functools import partial
from statistics import median

from bench.lab import Lab, as_owner, changed
from bench.measure import alternate
from bench.orders import new_events
from bench.positions import checkpoint
from bench.report import Result, at_most
from codebase.engine.log.appending import append
from codebase.engine.projections.checkpoint import ENSURE_CHECKPOINT
from codebase.engine.projections.read_model import READ_MODEL
from codebase.foundation.postgres import connect, connect_async
from codebase.foundation.settings import Settings

PARKED = 100_000
ROUNDS = 5
ORDERS_PER_ROUND = 40
IDLE_POLL_SECONDS = 0.001
"""As fast as a message of the broker would tell, so that resting does not hide what work costs."""
LOOK_SECONDS = 0.000_2

PARK = """
    INSERT INTO parked_stream (projector, stream_id, partition, category, reason)
    SELECT %(projector)s, gen_random_uuid(), 0, 'buy_order', 'for the benchmark'
    FROM generate_series(1, %(streams)s)
"""


def measure(lab: Lab) -> Iterator[Result]:
    """From an append's return to the checkpoint that covers it."""
    many, none = lab.stores("many_parked"), lab.stores("none_parked")
    for settings, streams in ((many, lab.effort.count(PARKED)), (none, 0)):
        with as_owner(settings, "read_model") as owner:
            owner.execute(ENSURE_CHECKPOINT, {"projector": READ_MODEL, "partition": 0})
            owner.execute(PARK, {"projector": READ_MODEL, "streams": streams})
            owner.execute("VACUUM (ANALYZE) parked_stream")
        hurried = changed(settings, idle_poll_seconds=IDLE_POLL_SECONDS)
        lab.serve(hurried, "read_model_sync")
    orders = lab.effort.count(ORDERS_PER_ROUND)
    # Connections make up their minds about their plans in the first few of them.
    _visible_ms(many, orders), _visible_ms(none, orders)
    numbers = alternate(
        lab.effort.rounds(ROUNDS),
        {"many": partial(_visible_ms, many, orders), "none": partial(_visible_ms, none, orders)},
    )
    name = f"time to visible with {PARKED:,} parked streams"
    yield Result(name=name, value=numbers.median("many"), unit="ms")
    yield Result(name="  beside it: with none", value=numbers.median("none"), unit="ms")
    yield Result(
        name=f"{name} ÷ with none",
        value=numbers.ratio("many", "none"),
        unit="ratio",
        target=at_most(1.5),
    )


def _visible_ms(settings: Settings, orders: int) -> float:
    """The median of so many orders, one after the other."""
    with (
        asyncio.Runner() as runner,
        connect(settings.required("read_model_url"), "bench") as store,
    ):
        log = runner.run(connect_async(settings.required("write_model_url"), "bench"))
        times = []
        for order in new_events(orders):
            [(_, position, _)] = runner.run(append(log, [order])).recorded
            started = time.perf_counter()
            while checkpoint(store) < position:
                time.sleep(LOOK_SECONDS)
            times.append(1000 * (time.perf_counter() - started))
        runner.run(log.close())
    return median(times)
