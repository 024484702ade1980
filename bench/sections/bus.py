"""The command bus beside a well-known event store, both in one process on the same Postgres."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from bench.callers import executed_per_second
from bench.eventsourcing_rival import orders_in
from bench.lab import Lab
from bench.measure import alternate
from bench.orders import submission
from bench.report import Result, at_least

CONCURRENT = 32
ROUNDS = 5
RUN_SECONDS = 2.0
ROUNDS_ALONE = 3
RUN_SECONDS_ALONE = 1.5
APPENDS = "durable appends of one order, in one process"


def measure(lab: Lab) -> Iterator[Result]:
    """Both, and how many times more the bus does: with 32 callers, and with one."""
    settings = lab.stores("bus")
    lab.write.create("eventsourcing")
    # Every round opens a bus anew, and the rival's connections stay open.
    with orders_in(lab.write.port, "eventsourcing", CONCURRENT) as rival:
        for callers, threads, rounds, seconds, bound in (
            (CONCURRENT, f"{CONCURRENT} threads", ROUNDS, RUN_SECONDS, 16),
            (1, "1 thread", ROUNDS_ALONE, RUN_SECONDS_ALONE, 1.5),
        ):
            run_seconds = lab.effort.seconds(seconds)
            numbers = alternate(
                lab.effort.rounds(rounds),
                {
                    "bus": partial(
                        executed_per_second, settings, submission, callers, run_seconds
                    ),
                    "rival": partial(_calls_per_second, rival.place, callers, run_seconds),
                },
            )
            ours = f"command bus, {callers} concurrent"
            theirs = f"eventsourcing, {threads}"
            yield Result(name=ours, value=numbers.median("bus"), unit="/s", chart=APPENDS)
            yield Result(
                name=f"  beside it: {theirs}",
                value=numbers.median("rival"),
                unit="/s",
                chart=APPENDS,
            )
            yield Result(
                name=f"{ours} ÷ {theirs}",
                value=numbers.ratio("bus", "rival"),
                unit="ratio",
                target=at_least(bound),
            )


def _calls_per_second(call: Callable[[], None], callers: int, seconds: float) -> float:
    started = time.perf_counter()

    def caller() -> int:
        done = 0
        while time.perf_counter() - started < seconds:
            call()
            done += 1
        return done

    with ThreadPoolExecutor(callers) as pool:
        done = sum(future.result() for future in [pool.submit(caller) for _ in range(callers)])
    return done / (time.perf_counter() - started)
