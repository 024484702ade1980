"""How long the relay lets events gather: longer where there are many."""

from __future__ import annotations

import pytest

from codebase.engine.messages.relay_session import (
    GATHER_SECONDS,
    LONG_GATHER_SECONDS,
    gather_seconds,
)


@pytest.mark.parametrize(
    ("found", "since_seconds", "expected"),
    [
        pytest.param(1, 3600.0, GATHER_SECONDS, id="the first one after a silence"),
        pytest.param(3, 0.005, GATHER_SECONDS, id="600 a second"),
        pytest.param(30, 0.005, LONG_GATHER_SECONDS, id="6,000 a second"),
        pytest.param(120, 0.02, LONG_GATHER_SECONDS, id="6,000 a second, still"),
        pytest.param(12, 0.02, GATHER_SECONDS, id="600 a second again"),
    ],
)
def test_events_gather_longer_where_there_are_many(
    found: int, since_seconds: float, expected: float
) -> None:
    assert gather_seconds(found, since_seconds) == expected
