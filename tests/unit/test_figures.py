"""What several processes tell together, and what stays of one that is gone."""

from __future__ import annotations

from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics_core import Metric

from codebase.foundation.observability.figures import decoded, encoded, together
from codebase.foundation.observability.metrics import RequestMetrics, rendered
from codebase.web.shared_figures import SharedFigures


class Process:
    """One that has counted, with metrics of every kind."""

    def __init__(self, *, count: int, waiting: int, started_at: float) -> None:
        self.registry = CollectorRegistry()
        counter = Counter("done", "Done.", ["kind"], registry=self.registry)
        counter.labels("this").inc(count)
        sizes = Histogram("size", "Sizes.", buckets=(1, 2), registry=self.registry)
        for _ in range(count):
            sizes.observe(2)
        # One that is a function, as prices have it.
        Gauge("waiting", "Waiting.", registry=self.registry).set_function(lambda: waiting)
        Gauge("process_start_time_seconds", "Start.", registry=self.registry).set(started_at)

    def families(self) -> list[Metric]:
        return list(self.registry.collect())


def values(families: list[Metric]) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


FIRST = Process(count=3, waiting=1, started_at=50)
SECOND = Process(count=4, waiting=2, started_at=20)


def test_counts_are_summed_and_gauges_are_taken_as_they_are_meant() -> None:
    assert values(together([FIRST.families(), SECOND.families()])) == {
        ("done_total", "this"): 7,
        ("size_bucket", "1.0"): 0,
        ("size_bucket", "2.0"): 7,
        ("size_bucket", "+Inf"): 7,
        ("size_count",): 7,
        ("size_sum",): 14,
        ("waiting",): 3,
        ("process_start_time_seconds",): 20,
    }


def test_all_are_ready_only_when_each_is() -> None:
    told = []
    for failed in ([], ["price"]):
        metrics = RequestMetrics()
        metrics.note_checks(["price", "write_model"], failed)
        told.append(list(metrics.collect()))
    assert values(together(told)) == {
        ("orderly_ready", "price"): 0,
        ("orderly_ready", "write_model"): 1,
    }


def test_what_one_process_tells_is_rendered_the_same_by_another() -> None:
    families = FIRST.families()
    assert rendered(decoded(encoded(families))) == rendered(families)


def test_of_a_process_that_is_gone_the_counts_stay_and_the_next_goes_on_from_them(
    tmp_path: Path,
) -> None:
    SharedFigures(tmp_path, 1).taken_with(FIRST.families())
    other = SharedFigures(tmp_path, 2)
    assert values(other.taken_with(SECOND.families()))["waiting",] == 3

    SharedFigures(tmp_path, 1).bury()
    left = values(other.taken_with(SECOND.families()))
    assert (left["done_total", "this"], left["size_count",], left["waiting",]) == (7, 7, 2)

    successor = SharedFigures(tmp_path, 1)
    for _ in range(2):
        found = values(successor.taken_with(FIRST.families()))
        assert (found["done_total", "this"], found["waiting",]) == (10, 3)


def test_a_folder_that_takes_nothing_keeps_nobody_from_telling_what_it_has(tmp_path: Path) -> None:
    alone = SharedFigures(tmp_path / "gone", 1)
    assert values(alone.taken_with(FIRST.families())) == values(FIRST.families())
