"""Positions run from 1 to the last without a gap, and time runs with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from psycopg import Connection

from codebase.operations.verify.findings import Findings

POSITIONS_PER_STATEMENT = 100_000

COUNT_POSITIONS = """
    SELECT count(*), max(position) FROM event
    WHERE partition = %(partition)s AND position > %(after)s AND position <= %(until)s
"""

FIND_GAPS = """
    SELECT previous, position
    FROM (
        SELECT position, lag(position, 1, %(previous)s::bigint) OVER (ORDER BY position) AS previous
        FROM event
        WHERE partition = %(partition)s AND position > %(after)s AND position <= %(until)s
    ) AS neighbours
    WHERE position <> previous + 1
    ORDER BY position
    LIMIT 20
"""

# Together with the last event before them.
FIND_TIME_STEPS_BACK = """
    SELECT position, recorded_at = previous
    FROM (
        SELECT position, recorded_at, lag(recorded_at) OVER (ORDER BY position) AS previous
        FROM event
        WHERE partition = %(partition)s AND position BETWEEN %(after)s AND %(until)s
    ) AS neighbours
    WHERE recorded_at <= previous
    ORDER BY position
    LIMIT 20
"""

READ_RELAY_CHECKPOINTS = "SELECT partition, position FROM relay_checkpoint ORDER BY partition"


def read_relayed(log: Connection[Any]) -> dict[int, int]:
    """Partition -> how far the relay has published, as the connection's transaction sees it."""
    return dict(log.execute(READ_RELAY_CHECKPOINTS).fetchall())


def check_positions(log: Connection[Any], bounds: Mapping[int, int], findings: Findings) -> None:
    """Look at every position up to the bounds, some at a time."""
    for partition, bound in bounds.items():
        previous = 0
        for after, until in _slices(bound):
            key = {"partition": partition, "after": after, "until": until}
            for position, same in log.execute(FIND_TIME_STEPS_BACK, key).fetchall():
                stands = "no younger" if same else "older"
                findings.add(
                    f"log: the event at {partition}:{position} is {stands} than the one before it"
                )
            previous = _check_slice(log, {**key, "previous": previous}, findings)


def _check_slice(log: Connection[Any], key: Mapping[str, int], findings: Findings) -> int:
    """Look for positions that are missing, and return the last one that is not."""
    count, last = log.execute(COUNT_POSITIONS, key).fetchone() or (0, None)
    if last is None:
        return key["previous"]
    if count != last - key["previous"]:
        for position_before, position in log.execute(FIND_GAPS, key).fetchall():
            findings.add(
                f"log: partition {key['partition']} has nothing between"
                f" {position_before} and {position}"
            )
    return int(last)


def _slices(bound: int) -> Iterator[tuple[int, int]]:
    for after in range(0, bound, POSITIONS_PER_STATEMENT):
        yield after, min(after + POSITIONS_PER_STATEMENT, bound)


def check_checkpoints(
    whose: str,
    bounds: Mapping[int, int],
    checkpoints: Mapping[int, int],
    findings: Findings,
) -> None:
    """Nobody has come further than the log goes."""
    for partition, position in checkpoints.items():
        if position > bounds.get(partition, 0):
            findings.add(f"{whose}'s checkpoint {partition}:{position} is beyond the log")
