"""A log of four partitions beside a log of one: what is placed, and what is opened."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial

from bench import orders, people
from bench.callers import callers_of_one_bus
from bench.lab import Lab
from bench.measure import alternate
from bench.report import Result, at_least
from codebase.engine.commands.submission import Submission

CALLERS = 32
ROUNDS = 7
RUN_SECONDS = 1.0
COMMANDS: Mapping[str, Callable[[], Submission]] = {
    "orders": orders.submission,
    "accounts": people.opening,
}


def measure(lab: Lab) -> Iterator[Result]:
    """Orders, which spend from one budget, and accounts, which claim an address each."""
    one, four = lab.stores("one_partition"), lab.stores("four_partitions", partitions=4)
    seconds = lab.effort.seconds(RUN_SECONDS)
    for name, make in COMMANDS.items():
        opened = partial(
            callers_of_one_bus, make=make, callers=CALLERS, warm_up=lab.effort.warms_up
        )
        with opened(four) as on_four, opened(one) as on_one:
            numbers = alternate(
                lab.effort.rounds(ROUNDS),
                {"four": partial(on_four, seconds), "one": partial(on_one, seconds)},
            )
        yield Result(
            name=f"{name} on four partitions, {CALLERS} callers of one bus",
            value=numbers.median("four"),
            unit="/s",
        )
        yield Result(name="  beside it: on one", value=numbers.median("one"), unit="/s")
        yield Result(
            name=f"{name} on four partitions ÷ on one",
            value=numbers.ratio("four", "one"),
            unit="ratio",
            target=at_least(1.0),
        )
