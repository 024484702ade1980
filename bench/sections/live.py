"""The whole embedded run: at rest, under steady load through RabbitMQ, and how much it holds."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import psutil

from bench.embedded import EmbeddedRun, proportional_bytes, running
from bench.lab import Effort, Lab, changed
from bench.load import Answers, put_orders
from bench.measure import percentile
from bench.positions import checkpoint, head, wait_until_level
from bench.report import Result, at_least, below
from codebase.foundation.postgres import connect
from codebase.foundation.settings import Settings

SETTLE_SECONDS = 5
IDLE_SECONDS = 10

CONNECTIONS = 64
ALONE_SECONDS = 3
PROBE_SECONDS = 5
PROBED_SHARES = (0.5, 0.6, 0.65, 0.7, 0.75, 0.8, 0.9)
"""Of what the service places when nobody reads."""
SUSTAINED_SECONDS = 60
SUSTAINED_SHARE = 0.95
"""Of the highest rate that a probe kept up with: a minute holds more than a few seconds do."""
ONCE_MORE_SHARE = 0.9
LAG_LIMIT_SECONDS = 1.0
PROBE_LAG_SECONDS = 0.5
KEPT_PACE = 0.97
LAG_SAMPLE_SECONDS = 0.1
NAMED_MICROSECONDS = 1
TARGET_RATE = 4_000

PACED_RATE = 500
PACED_CONNECTIONS = 16
PACED_SECONDS = 12
VISIBLE_SAMPLE_SECONDS = 0.001

ANSWERED_RATE = 1_000
ANSWERED_SECONDS = 4
ANSWERED_ROUNDS = 5

MIB = 2**20

# recorded_at is taken when append() begins, before the commit: the age is never too low.
READ_AGE_OF_NEXT = """
    SELECT extract(epoch FROM clock_timestamp() - recorded_at)::float8
    FROM event WHERE partition = 0 AND position = %(position)s
"""
READ_RECORDED = """
    SELECT position, extract(epoch FROM recorded_at)::float8
    FROM event WHERE partition = 0 AND position > %(after)s ORDER BY position
"""


def measure(lab: Lab) -> Iterator[Result]:
    """Every row about the embedded run while it is up."""
    effort = lab.effort
    with running(lab, lab.folder / "live") as run:
        alone = Alone(lab)
        yield from _idle(run, effort)
        yield from _visible(run, effort)
        yield from _answered(run, effort)
        yield from _sustained(run, effort, alone)
        yield from _memory(run)


@dataclass
class Alone:
    """The same service on a log of its own, with neither relay nor projector.

    Args:
        lab: where it is started.
    """

    lab: Lab
    rates: list[float] = field(default_factory=list)
    """How many orders a second it has placed, run by run."""

    def __post_init__(self) -> None:
        settings = self.lab.stores("alone")
        prices = self.lab.serve(settings, "btc_price")
        priced = changed(settings, btc_price_url=prices)
        self._address = self.lab.serve(priced, "create_buy_order")
        if self.lab.effort.warms_up:
            self._run(1)

    def measure(self) -> float:
        """Once more; the median so far."""
        self.rates.append(self._run(self.lab.effort.seconds(ALONE_SECONDS)))
        return median(self.rates)

    def _run(self, seconds: float) -> float:
        answers = put_orders(self._address, connections=CONNECTIONS, seconds=seconds)
        return answers.all_good().per_second


# At rest


def _idle(run: EmbeddedRun, effort: Effort) -> Iterator[Result]:
    time.sleep(effort.seconds(SETTLE_SECONDS))
    before, started = run.processor_seconds(), time.monotonic()
    time.sleep(effort.seconds(IDLE_SECONDS))
    elapsed = time.monotonic() - started
    after = run.processor_seconds()
    shares = {name: 100 * (after[name] - before.get(name, 0)) / elapsed for name in after}
    for name, share in sorted(shares.items()):
        yield Result(name=f"  idle processor time: {name}", value=share, unit="% core")
    yield Result(
        name="idle processor time of the whole embedded run",
        value=sum(shares.values()),
        unit="% core",
        target=below(5),
    )


# Lag


@dataclass
class LagSampler:
    """How old the oldest event is that the read model lacks, a few times a second."""

    settings: Settings
    lags_seconds: list[float] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def sampling(self) -> Iterator[None]:
        """Sample while the body runs."""
        thread = threading.Thread(target=self._run, name="lag")
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()

    @property
    def worst_seconds(self) -> float:
        """The largest lag seen."""
        return max(self.lags_seconds, default=0.0)

    def _run(self) -> None:
        with (
            connect(self.settings.required("read_model_url"), "bench") as store,
            connect(self.settings.required("write_model_reader_url"), "bench") as log,
        ):
            while not self._stop.wait(LAG_SAMPLE_SECONDS):
                position = checkpoint(store)
                row = log.execute(READ_AGE_OF_NEXT, {"position": position + 1}).fetchone()
                self.lags_seconds.append(max(row[0], 0.0) if row else 0.0)


def _sustained(run: EmbeddedRun, effort: Effort, alone: Alone) -> Iterator[Result]:
    # Before the probes, after them, and after the minute: what a neighbour takes is taken of both.
    rate = _rate_kept_up_with(run, effort, alone.measure())
    without_readers = alone.measure()
    rate = max(rate, without_readers * PROBED_SHARES[0]) * SUSTAINED_SHARE
    seconds = effort.seconds(SUSTAINED_SECONDS)
    busy_before = run.processor_seconds()
    answers, worst = _paced(run, rate, seconds)
    if worst > LAG_LIMIT_SECONDS:
        # The minute held more than the probes: once more, at a rate that it should hold.
        busy_before = run.processor_seconds()
        answers, worst = _paced(run, rate * ONCE_MORE_SHARE, seconds)
    busy = run.processor_seconds()
    without_readers = alone.measure()
    kept = answers.per_second if worst <= LAG_LIMIT_SECONDS else 0.0
    name = f"orders for {SUSTAINED_SECONDS} s through RabbitMQ, read model at most 1 s behind"
    yield Result(name=name, value=kept, unit="/s", target=at_least(TARGET_RATE))
    yield Result(name="  beside it: PUT/s without readers", value=without_readers, unit="/s")
    yield Result(
        name=f"orders for {SUSTAINED_SECONDS} s through RabbitMQ ÷ PUT/s without readers",
        value=kept / without_readers,
        unit="ratio",
        target=at_least(0.65),
    )
    yield Result(name="  beside it: orders that were placed", value=answers.per_second, unit="/s")
    yield Result(name="  beside it: the worst lag of that minute", value=worst, unit="s")
    yield Result(name="  beside it: PUT p99 in that minute", value=answers.p99_ms, unit="ms")
    for process in sorted(busy):
        microseconds = 1e6 * (busy[process] - busy_before.get(process, 0)) / answers.requests
        if microseconds >= NAMED_MICROSECONDS:
            yield Result(
                name=f"  processor time per order: {process}", value=microseconds, unit="µs"
            )


def _rate_kept_up_with(run: EmbeddedRun, effort: Effort, without_readers: float) -> float:
    """The highest of some rates at which, for a few seconds, everything keeps up."""
    best = 0.0
    for share in PROBED_SHARES[: effort.rounds(len(PROBED_SHARES))]:
        rate = share * without_readers
        answers, worst = _paced(run, rate, effort.seconds(PROBE_SECONDS))
        if worst > PROBE_LAG_SECONDS:
            break
        best = answers.per_second
        if answers.per_second < rate * KEPT_PACE:
            break
    return best


def _paced(run: EmbeddedRun, rate: float, seconds: float) -> tuple[Answers, float]:
    """Orders at a pace: the answers, and the worst lag in seconds."""
    wait_until_level(run.settings())
    sampler = LagSampler(run.settings())
    with sampler.sampling():
        address = run.address("create_buy_order")
        answers = put_orders(address, connections=CONNECTIONS, seconds=seconds, pace=rate)
    return answers.all_good(), sampler.worst_seconds


def _answered(run: EmbeddedRun, effort: Effort) -> Iterator[Result]:
    """How soon an order is answered while there is time left, and others read."""
    seconds = effort.seconds(ANSWERED_SECONDS)
    rounds = [_paced(run, ANSWERED_RATE, seconds)[0] for _ in range(effort.rounds(ANSWERED_ROUNDS))]
    yield Result(
        name=f"PUT p99 at {ANSWERED_RATE:,} orders/s, readers on",
        value=median(answers.p99_ms for answers in rounds),
        unit="ms",
        target=below(10),
    )
    for name, value, unit in (
        ("in the slowest round", max(answers.p99_ms for answers in rounds), "ms"),
        ("p50", median(answers.p50_ms for answers in rounds), "ms"),
        ("orders that were placed", median(answers.per_second for answers in rounds), "/s"),
    ):
        yield Result(name=f"  beside it: {name}", value=value, unit=unit)


# From commit to visible


def _visible(run: EmbeddedRun, effort: Effort) -> Iterator[Result]:
    settings = run.settings()
    address = run.address("create_buy_order")
    seconds = effort.seconds(PACED_SECONDS)
    if effort.warms_up:
        put_orders(address, connections=PACED_CONNECTIONS, seconds=2, pace=PACED_RATE)
    with connect(settings.required("write_model_reader_url"), "bench") as log:
        wait_until_level(run.settings())
        before = head(log)
        watcher = CheckpointWatcher(settings)
        with watcher.watching():
            put_orders(
                address, connections=PACED_CONNECTIONS, seconds=seconds, pace=PACED_RATE
            ).all_good()
            wait_until_level(run.settings())
            # One look more, so that the last move is seen as well.
            time.sleep(10 * VISIBLE_SAMPLE_SECONDS)
        recorded = log.execute(READ_RECORDED, {"after": before}).fetchall()
    delays_ms = watcher.delays_ms(recorded)
    name = f"commit → visible at {PACED_RATE} orders/s"
    for percent, bound in ((50, 15), (99, 100)):
        yield Result(
            name=f"{name}, p{percent}",
            value=percentile(delays_ms, percent),
            unit="ms",
            target=below(bound),
        )
    yield Result(name="  beside it: what looking costs", value=watcher.cost_percent, unit="% core")


class CheckpointWatcher:
    """Looks at the read model's checkpoint about every millisecond and notes when it moved."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._moves: list[tuple[int, float]] = []
        self._stop = threading.Event()
        self.cost_percent = 0.0
        """Of a core, in this process; the server's part is about as much."""

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch while the body runs."""
        thread = threading.Thread(target=self._run, name="watcher")
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()

    def delays_ms(self, recorded: list[tuple[int, float]]) -> list[float]:
        """For each (position, epoch) of the log, how long it took to be visible.

        recorded_at is taken when append() begins, and a move is noted after the look that saw it:
        both make the delay longer than it was, never shorter.
        """
        delays = []
        moves = iter(self._moves)
        reached, seen_at = next(moves)
        for position, recorded_at in recorded:
            while reached < position:
                reached, seen_at = next(moves)
            delays.append((seen_at - recorded_at) * 1000)
        return delays

    def _run(self) -> None:
        started, busy = time.monotonic(), time.thread_time()
        last = -1
        with connect(self._settings.required("read_model_url"), "bench") as store:
            while not self._stop.wait(VISIBLE_SAMPLE_SECONDS):
                position = checkpoint(store)
                if position != last:
                    self._moves.append((position, time.time()))
                    last = position
        elapsed = time.monotonic() - started
        self.cost_percent = 100 * (time.thread_time() - busy) / elapsed


# Memory


def _memory(run: EmbeddedRun) -> Iterator[Result]:
    """After the load, when everything holds what it will hold."""
    largest = 0.0
    for name, processes in sorted(run.processes().items()):
        if name in {"Postgres", "RabbitMQ"}:
            proportional = sum(proportional_bytes(process) for process in processes) / MIB
            yield Result(
                name=f"  proportional memory: {name}, {len(processes)} processes",
                value=proportional,
                unit="MB",
            )
            continue
        for process in processes:
            memory = _memory_of(process)
            largest = max(largest, memory.rss / MIB)
            yield Result(
                name=f"  resident memory: {name} (private {memory.uss / MIB:.0f} MB)",
                value=memory.rss / MIB,
                unit="MB",
            )
    yield Result(
        name="resident memory after the load, the largest process of ours",
        value=largest,
        unit="MB",
        target=below(120),
    )


def _memory_of(process: psutil.Process) -> Any:  # noqa: ANN401 - a named tuple of psutil's
    return process.memory_full_info()
