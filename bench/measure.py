"""How numbers are taken: side by side in short alternating runs, and summed up by medians."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median


class BenchError(Exception):
    """Something could not be measured; the text says why."""


@dataclass(frozen=True, kw_only=True)
class SideBySide:
    """Numbers of several sides, one per round."""

    numbers: Mapping[str, list[float]]

    def median(self, side: str) -> float:
        """The median of one side."""
        return median(self.numbers[side])

    def ratio(self, side: str, other: str) -> float:
        """The median over the rounds of `side` ÷ `other`.

        Both runs of a round are close in time, so that a noisy neighbour hits both.
        """
        pairs = zip(self.numbers[side], self.numbers[other], strict=True)
        return median(mine / theirs for mine, theirs in pairs)


def alternate(rounds: int, sides: Mapping[str, Callable[[], float]]) -> SideBySide:
    """Run every side once per round, there and back: A B, B A.

    Short rounds, and many of them, hold up better against a machine that is now fast and now slow
    than long ones: what is compared is closer in time, and a median needs many.

    Args:
        rounds: how many.
        sides: name -> one short run, which returns its number.
    """
    numbers: dict[str, list[float]] = {name: [] for name in sides}
    there = list(sides)
    for nth in range(rounds):
        for name in there if nth % 2 == 0 else reversed(there):
            numbers[name].append(sides[name]())
    return SideBySide(numbers=numbers)


def joined(comparisons: Sequence[SideBySide]) -> SideBySide:
    """The rounds of all of them as those of one; the sides are the same in each."""
    return SideBySide(
        numbers={
            side: [number for each in comparisons for number in each.numbers[side]]
            for side in comparisons[0].numbers
        }
    )


def seconds(work: Callable[[], object]) -> float:
    """How long `work` takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def percentile(values: list[float], percent: float) -> float:
    """The smallest value that is at least as large as `percent` of all."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]
