"""How far back looks for what is due begin, and when all there is is looked at again."""

from __future__ import annotations

import pytest

from codebase.engine.reactions.reach import (
    ALL_INTERVAL_SECONDS,
    LONGEST_INTERVAL_SECONDS,
    MARGIN_SECONDS,
    REST_FACTOR,
    Reach,
)


@pytest.mark.parametrize(
    ("took", "rests"),
    [
        (0.001, ALL_INTERVAL_SECONDS),
        (0.5, REST_FACTOR * 0.5),
        (8.0, LONGEST_INTERVAL_SECONDS),
    ],
    ids=["at once", "for long", "paused in it"],
)
def test_all_there_is_is_looked_at_again(took: float, rests: float) -> None:
    reach = Reach()
    assert reach.back_seconds(100.0) is None
    reach.taken(None, 100.0, 100.0 + took, 0.0)
    again = 100.0 + took + rests
    assert reach.back_seconds(again - 0.1) is not None
    assert reach.back_seconds(again + 0.1) is None


def test_a_look_begins_where_the_one_before_left_nothing() -> None:
    reach = Reach()
    reach.taken(None, 100.0, 100.0, 0.0)
    assert reach.back_seconds(100.5) == pytest.approx(0.5 + MARGIN_SECONDS)
    reach.taken(2.5, 100.5, 100.6, 0.3)
    assert reach.back_seconds(100.7) == pytest.approx(0.5 + MARGIN_SECONDS)
