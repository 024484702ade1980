"""Figures of several processes, told as if one process had counted everything.

What is counted is summed, and what a process has counted stays when it is gone. A gauge is summed
over the processes that are there, unless it said at its definition that it is taken otherwise.

prometheus_client has a mode for this. It has to be chosen by a variable before anything is
imported, takes a lock and a look at the process id for each count, leaves out collectors and gauges
that are functions, and adds a label to those that are not.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence

from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Sample

Taken = Callable[[Iterable[float]], float]

COUNTED = frozenset({"counter", "histogram"})
NOT_SUMMED: dict[str, Taken] = {"process_start_time_seconds": min, "python_info": max}
"""By the gauge's name; these two are the client's own."""


def not_summed(gauge: str, taken: Taken) -> None:
    """Say how a gauge is taken of the values that several processes tell, if not by their sum."""
    NOT_SUMMED[gauge] = taken


def encoded(families: Iterable[Metric]) -> bytes:
    """All samples, for another process or a later one."""
    return json.dumps(
        [
            [
                *(family.name, family.type, family.documentation),
                [[sample.name, sample.labels, sample.value] for sample in family.samples],
            ]
            for family in families
        ]
    ).encode()


def decoded(told: bytes) -> list[Metric]:
    """What `encoded` was given."""
    families = []
    for name, kind, documentation, samples in json.loads(told):
        family = Metric(name, documentation, kind)
        family.samples = [Sample(*sample) for sample in samples]
        families.append(family)
    return families


def what_was_counted(families: Iterable[Metric]) -> list[Metric]:
    """Without the gauges, for a process that is gone."""
    return [family for family in families if family.type in COUNTED]


def together(told: Sequence[Iterable[Metric]]) -> list[Metric]:
    """One family of each name, with one value for each set of labels."""
    by_name: dict[str, list[Metric]] = {}
    for families in told:
        for family in families:
            by_name.setdefault(family.name, []).append(family)
    return [_as_one(families) for families in by_name.values()]


def _as_one(families: Sequence[Metric]) -> Metric:
    first = families[0]
    values: dict[tuple[str, tuple[tuple[str, str], ...]], list[float]] = {}
    for family in families:
        for sample in family.samples:
            key = sample.name, tuple(sample.labels.items())
            values.setdefault(key, []).append(sample.value)
    taken = NOT_SUMMED.get(first.name, sum)
    one = Metric(first.name, first.documentation, first.type)
    one.samples = [
        Sample(name, dict(labels), taken(each)) for (name, labels), each in values.items()
    ]
    return one
