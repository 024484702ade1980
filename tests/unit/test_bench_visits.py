"""What the benchmark measures several times: in which order, and what it comes to."""

from __future__ import annotations

import pytest

from bench.measure import BenchError, SideBySide, joined
from bench.report import Result, at_least, at_most
from bench.visits import REPEATED, in_turn, over_visits


def test_what_is_repeated_is_measured_at_the_beginning_in_the_middle_and_at_the_end() -> None:
    sections = [*REPEATED, *map(str, range(10))]
    order = in_turn(sections, small=False)
    assert tuple(order[: len(REPEATED)]) == tuple(order[-len(REPEATED) :]) == REPEATED
    assert [order.count(name) for name in sections] == [
        3 if name in REPEATED else 1 for name in sections
    ]
    middle = len(order) // 2
    assert order[middle] in REPEATED


def test_a_small_run_visits_every_section_once() -> None:
    assert in_turn(["put", "bulk"], small=True) == ["put", "bulk"]


def test_sections_that_are_named_are_repeated_as_well() -> None:
    assert in_turn(["put", "bulk"], small=False) == ["put", "put", "bulk", "put"]


def test_of_several_visits_the_median_counts_and_each_is_told() -> None:
    visits = [[Result(name="a", value=value, unit="", target=at_least(2))] for value in (1, 2, 9)]
    [together] = over_visits(visits)
    assert together.value == 2
    assert together.ok
    assert together.as_json()["visits"] == [1, 2, 9]


def test_what_must_never_happen_counts_wherever_it_did() -> None:
    visits = [
        [Result(name="failed", value=value, unit="", target=at_most(0), together=max)]
        for value in (0, 1, 0)
    ]
    [together] = over_visits(visits)
    assert not together.ok


def test_visits_with_other_rows_are_not_taken_together() -> None:
    with pytest.raises(BenchError, match="visits have different rows: a, b"):
        over_visits([[Result(name=name, value=1, unit="")] for name in ("a", "b")])


def test_comparisons_are_joined_side_by_side() -> None:
    both = joined(
        [SideBySide(numbers={"a": [1], "b": [2]}), SideBySide(numbers={"a": [3, 5], "b": [3, 5]})]
    )
    assert both.numbers == {"a": [1, 3, 5], "b": [2, 3, 5]}
