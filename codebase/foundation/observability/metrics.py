"""Counts requests. The hot path is one lookup and three additions, without a lock.

prometheus_client's own histogram takes a lock per increment, for threads that are not here: only
the event loop counts, and it is the event loop that renders `/metrics`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, disable_created_metrics, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import REGISTRY, Collector

from codebase.foundation.observability.figures import not_summed

BOUNDS_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
LABELS = ("service", "route", "method", "status")

# All together are ready when each of them is.
not_summed("orderly_ready", min)

# A second series for each counter, only to say when it began: Prometheus sees that by itself.
disable_created_metrics()  # type: ignore[no-untyped-call]

Labels = tuple[str, str, str, int]


class Tally:
    """How many requests took how long, for one set of labels."""

    __slots__ = ("buckets", "seconds")

    def __init__(self) -> None:
        self.buckets = [0] * (len(BOUNDS_SECONDS) + 1)
        self.seconds = 0.0

    def cumulative(self) -> list[tuple[str, float]]:
        """Upper bound and count of everything up to it, as Prometheus wants them."""
        bounds = [*map(str, BOUNDS_SECONDS), "+Inf"]
        return list(zip(bounds, map(float, accumulate(self.buckets)), strict=True))


class RequestMetrics(Collector):
    """The requests of one process, by service, route template, method and status."""

    def __init__(self) -> None:
        self._tallies: dict[Labels, Tally] = {}
        self._checks: dict[str, bool] = {}

    def observe(self, labels: Labels, seconds: float) -> None:
        """Count one answered request; `seconds` is how long its client waited."""
        tally = self._tallies.get(labels)
        if tally is None:
            tally = self._tallies[labels] = Tally()
        tally.buckets[bisect_left(BOUNDS_SECONDS, seconds)] += 1
        tally.seconds += seconds

    def note_checks(self, checks: Collection[str], failed: Collection[str]) -> None:
        """Note which of the process' readiness checks hold at the moment."""
        self._checks = {check: check not in failed for check in checks}

    def collect(self) -> Iterator[Metric]:
        """What Prometheus is told."""
        requests = CounterMetricFamily("orderly_http_requests", "Requests answered.", labels=LABELS)
        latency = HistogramMetricFamily(
            "orderly_http_request_seconds",
            "Time from the headers of a request to the end of its answer.",
            labels=LABELS,
        )
        for (*names, status), tally in self._tallies.items():
            values = [*map(str, names), str(status)]
            requests.add_metric(values, sum(tally.buckets))
            latency.add_metric(values, tally.cumulative(), tally.seconds)
        ready = GaugeMetricFamily(
            "orderly_ready",
            "1: what the check looks at can be used, 0: it cannot.",
            labels=["check"],
        )
        for check, holds in self._checks.items():
            ready.add_metric([check], holds)
        yield requests
        yield latency
        yield ready

    def families(self) -> list[Metric]:
        """Everything this process measures."""
        return [*REGISTRY.collect(), *self.collect()]

    def render(self) -> bytes:
        """The same, in Prometheus' text format."""
        return rendered(self.families())


def rendered(families: Iterable[Metric]) -> bytes:
    """All of it in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(_Told(families))
    return generate_latest(registry)


class _Told(Collector):
    """Nothing but what it was given."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = list(families)

    def collect(self) -> list[Metric]:
        return self._families
