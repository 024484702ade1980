"""What is measured several times in a run: in which order, and what it comes to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import zip_longest

from bench.measure import BenchError
from bench.report import Result

REPEATED = ("put", "bus", "partitions", "growth", "payments", "load")
"""What is measured at the beginning, in the middle and at the end of a run, each time with new
services and connections. A host may be fast for minutes, and then slow, and what has two sides is
not slowed down evenly: a service and its database are on both cores, a service alone on one."""


def in_turn(names: Iterable[str], *, small: bool) -> list[str]:
    """The sections in the order in which they are visited; some of them are three times."""
    names = list(names)
    if small:
        return names
    repeated = [name for name in names if name in REPEATED]
    others = [name for name in names if name not in REPEATED]
    half = len(others) // 2
    return [*repeated, *others[:half], *repeated, *others[half:], *repeated]


def over_visits(visits: Sequence[Sequence[Result]]) -> list[Result]:
    """The rows of a section that was measured several times.

    Args:
        visits: the same rows of each visit, in the same order.

    Raises:
        BenchError: they are not the same rows.
    """
    for names in zip_longest(*([row.name for row in rows] for rows in visits)):
        if len(set(names)) > 1:
            raise BenchError(f"visits have different rows: {', '.join(map(str, names))}")
    return [_together(rows) for rows in zip(*visits, strict=True)]


def _together(rows: Sequence[Result]) -> Result:
    values = [row.value for row in rows]
    return replace(rows[0], value=rows[0].together(values), visits=values)
