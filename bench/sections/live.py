"""The whole embedded run: at rest, under steady load through RabbitMQ, and how much it holds."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psutil
from psycopg import Connection

from bench.embedded import EmbeddedRun, proportional_bytes, running
from bench.lab import Lab
from bench.load import Answers, put_orders
from bench.measure import percentile
from bench.report import Result, at_least, below
from codebase.engine.projections.read_model import READ_MODEL
from codebase.foundation.postgres import connect
from codebase.foundation.settings import Settings

SETTLE_SECONDS = 5
IDLE_SECONDS = 15

CONNECTIONS = 64
PROBE_SECONDS = 6
PROBED_RATES = (4_200, 5_000, 6_000, 7_000, 8_000)
SUSTAINED_SECONDS = 60
SUSTAINED_SHARE = 0.9
"""Of the highest rate that a probe kept up with: a minute holds more than six seconds do."""
LAG_LIMIT_SECONDS = 1.0
PROBE_LAG_SECONDS = 0.5
KEPT_PACE = 0.97
LAG_SAMPLE_SECONDS = 0.1
NAMED_MICROSECONDS = 1
TARGET_RATE = 4_000

PACED_RATE = 500
PACED_CONNECTIONS = 16
PACED_SECONDS = 15
VISIBLE_SAMPLE_SECONDS = 0.001

MIB = 2**20

READ_CHECKPOINT = """
    SELECT position FROM projection_checkpoint WHERE projector = %(projector)s AND partition = 0
"""
# recorded_at is taken when append() begins, before the commit: the age is never too low.
READ_AGE_OF_NEXT = """
    SELECT extract(epoch FROM clock_timestamp() - recorded_at)::float8
    FROM event WHERE partition = 0 AND position = %(position)s
"""
READ_HEAD = "SELECT position FROM log_head WHERE partition = 0"
READ_RECORDED = """
    SELECT position, extract(epoch FROM recorded_at)::float8
    FROM event WHERE partition = 0 AND position > %(after)s ORDER BY position
"""


def measure(lab: Lab) -> Iterator[Result]:
    """Every row about the embedded run while it is up."""
    with running(lab, lab.folder / "live") as run:
        yield from _idle(run)
        yield from _visible(run)
        yield from _sustained(run)
        yield from _memory(run)


# At rest


def _idle(run: EmbeddedRun) -> Iterator[Result]:
    time.sleep(SETTLE_SECONDS)
    before, started = _processor_seconds(run), time.monotonic()
    time.sleep(IDLE_SECONDS)
    elapsed = time.monotonic() - started
    after = _processor_seconds(run)
    shares = {name: 100 * (after[name] - before.get(name, 0)) / elapsed for name in after}
    for name, share in sorted(shares.items()):
        yield Result(name=f"  idle processor time: {name}", value=share, unit="% core")
    yield Result(
        name="idle processor time of the whole embedded run",
        value=sum(shares.values()),
        unit="% core",
        target=below(5),
    )


def _processor_seconds(run: EmbeddedRun) -> dict[str, float]:
    return {
        name: sum(_processor_seconds_of(process) for process in processes)
        for name, processes in run.processes().items()
    }


def _processor_seconds_of(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0
    return times.user + times.system


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
                position = _checkpoint(store)
                row = log.execute(READ_AGE_OF_NEXT, {"position": position + 1}).fetchone()
                self.lags_seconds.append(max(row[0], 0.0) if row else 0.0)


def _checkpoint(store: Connection[Any]) -> int:
    key = {"projector": READ_MODEL}
    row = store.execute(READ_CHECKPOINT, key, prepare=True).fetchone()
    return int(row[0]) if row else 0


def _sustained(run: EmbeddedRun) -> Iterator[Result]:
    rate = _rate_kept_up_with(run) * SUSTAINED_SHARE
    busy_before = _processor_seconds(run)
    answers, worst = _paced(run, max(rate, TARGET_RATE + 50), SUSTAINED_SECONDS)
    if worst > LAG_LIMIT_SECONDS:
        # The minute held more than the probes: once more, at a rate that it should hold.
        busy_before = _processor_seconds(run)
        answers, worst = _paced(run, answers.per_second * 0.8, SUSTAINED_SECONDS)
    busy = _processor_seconds(run)
    kept = worst <= LAG_LIMIT_SECONDS
    yield Result(
        name=f"orders for {SUSTAINED_SECONDS} s through RabbitMQ, read model at most 1 s behind",
        value=answers.per_second if kept else 0.0,
        unit="/s",
        target=at_least(TARGET_RATE),
    )
    yield Result(name="  beside it: orders that were placed", value=answers.per_second, unit="/s")
    yield Result(name="  beside it: the worst lag of that minute", value=worst, unit="s")
    yield Result(name="  beside it: PUT p99 in that minute", value=answers.p99_ms, unit="ms")
    for name in sorted(busy):
        microseconds = 1e6 * (busy[name] - busy_before.get(name, 0)) / answers.requests
        if microseconds >= NAMED_MICROSECONDS:
            yield Result(name=f"  processor time per order: {name}", value=microseconds, unit="µs")


def _rate_kept_up_with(run: EmbeddedRun) -> float:
    """The highest of some rates at which, for a few seconds, everything keeps up."""
    best = 0.0
    for rate in PROBED_RATES:
        answers, worst = _paced(run, rate, PROBE_SECONDS)
        if worst > PROBE_LAG_SECONDS:
            break
        best = answers.per_second
        if answers.per_second < rate * KEPT_PACE:
            break
    return best


def _paced(run: EmbeddedRun, rate: float, seconds: float) -> tuple[Answers, float]:
    """Orders at a pace: the answers, and the worst lag in seconds."""
    _wait_until_level(run)
    sampler = LagSampler(run.settings())
    with sampler.sampling():
        address = run.address("create_buy_order")
        answers = put_orders(address, connections=CONNECTIONS, seconds=seconds, pace=rate)
    return answers.all_good(), sampler.worst_seconds


def _wait_until_level(run: EmbeddedRun) -> None:
    """Return when the read model holds what the log holds."""
    settings = run.settings()
    with (
        connect(settings.required("read_model_url"), "bench") as store,
        connect(settings.required("write_model_reader_url"), "bench") as log,
    ):
        while _checkpoint(store) < _head(log):
            time.sleep(LAG_SAMPLE_SECONDS)


def _head(log: Connection[Any]) -> int:
    row = log.execute(READ_HEAD).fetchone()
    return int(row[0]) if row else 0


# From commit to visible


def _visible(run: EmbeddedRun) -> Iterator[Result]:
    settings = run.settings()
    address = run.address("create_buy_order")
    put_orders(address, connections=PACED_CONNECTIONS, seconds=2, pace=PACED_RATE)
    with connect(settings.required("write_model_reader_url"), "bench") as log:
        _wait_until_level(run)
        before = _head(log)
        watcher = CheckpointWatcher(settings)
        with watcher.watching():
            put_orders(
                address, connections=PACED_CONNECTIONS, seconds=PACED_SECONDS, pace=PACED_RATE
            ).all_good()
            _wait_until_level(run)
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
                position = _checkpoint(store)
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
