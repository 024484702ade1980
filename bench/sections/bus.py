"""The command bus beside well-known event stores, all of them on the same Postgres."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from bench import message_db
from bench.callers import Execute, callers_of_one_bus
from bench.eventsourcing_rival import Orders, orders_in
from bench.lab import Lab
from bench.measure import alternate
from bench.orders import submission
from bench.report import Result, at_least

CONCURRENT = 32
ROUNDS = 5
RUN_SECONDS = 1.0
ROUNDS_ALONE = 9
CATEGORIES = 64
CHART = f"orders appended durably, each in a stream of its own, {CONCURRENT} at once"
CHART_ALONE = "the same, one after the other"


def measure(lab: Lab) -> Iterator[Result]:
    """With 32 callers, and with one."""
    lab.write.create("eventsourcing")
    with orders_in(lab.write.port, "eventsourcing", CONCURRENT) as rival:
        for store, callers, compared in (
            ("bus", CONCURRENT, _at_once),
            # The rival's log has not become long by now, and ours would be.
            ("bus_alone", 1, _alone),
        ):
            settings = lab.stores(store)
            warm_up = lab.effort.warms_up
            with callers_of_one_bus(settings, submission, callers, warm_up=warm_up) as execute:
                yield from compared(lab, execute, rival)


def _at_once(lab: Lab, execute: Execute, rival: Orders) -> Iterator[Result]:
    seconds = lab.effort.seconds(RUN_SECONDS)
    sides: dict[str, Callable[[], float]] = {
        "bus": partial(execute, seconds),
        "eventsourcing": partial(_calls_per_second, rival.place, CONCURRENT, seconds),
    }
    if message_db.is_installed():
        message_db.install(lab, "message_db")
        write = partial(message_db.writes_per_second, lab, "message_db", seconds=seconds)
        sides |= {"one category": write(categories=1), "categories": write(categories=CATEGORIES)}
    _warm_up(lab, rival, CONCURRENT)
    numbers = alternate(lab.effort.rounds(ROUNDS), sides)
    ours, chart = f"command bus, {CONCURRENT} concurrent", CHART
    yield Result(name=ours, value=numbers.median("bus"), unit="/s", chart=chart)
    names = {
        "eventsourcing": f"eventsourcing, {CONCURRENT} threads",
        "one category": f"message-db, {CONCURRENT} clients, one category",
        "categories": f"message-db, {CONCURRENT} clients, {CATEGORIES} categories",
    }
    theirs = {side: names[side] for side in sides if side in names}
    for side, name in theirs.items():
        value = numbers.median(side)
        yield Result(name=f"  beside it: {name}", value=value, unit="/s", chart=chart)
    for side, name in theirs.items():
        yield Result(
            name=f"{ours} ÷ {name}",
            value=numbers.ratio("bus", side),
            unit="ratio",
            target=at_least(16) if side == "eventsourcing" else None,
        )


def _alone(lab: Lab, execute: Execute, rival: Orders) -> Iterator[Result]:
    seconds = lab.effort.seconds(RUN_SECONDS)
    _warm_up(lab, rival, 1)
    numbers = alternate(
        lab.effort.rounds(ROUNDS_ALONE),
        {
            "bus": partial(execute, seconds),
            "eventsourcing": partial(_calls_per_second, rival.place, 1, seconds),
        },
    )
    ours, theirs = "command bus, one caller", "eventsourcing, one thread"
    yield Result(name=ours, value=numbers.median("bus"), unit="/s", chart=CHART_ALONE)
    value = numbers.median("eventsourcing")
    yield Result(name=f"  beside it: {theirs}", value=value, unit="/s", chart=CHART_ALONE)
    yield Result(
        name=f"{ours} ÷ {theirs}",
        value=numbers.ratio("bus", "eventsourcing"),
        unit="ratio",
        target=at_least(1.5),
    )


def _warm_up(lab: Lab, rival: Orders, callers: int) -> None:
    """Its connections are made by then, as those of our bus are."""
    if lab.effort.warms_up:
        _calls_per_second(rival.place, callers, RUN_SECONDS)


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
