"""Positions run from 1 to the head without a gap, time runs with them, and no id comes twice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from psycopg import Connection

from codebase.operations.verify.findings import Findings

POSITIONS_PER_STATEMENT = 100_000

READ_BOUNDS = """
    SELECT head.partition, head.position,
           coalesce((SELECT max(position) FROM event WHERE partition = head.partition), 0)
    FROM log_head AS head
    ORDER BY head.partition
"""

COUNT_POSITIONS = """
    SELECT count(*) FROM event
    WHERE partition = %(partition)s AND position > %(after)s AND position <= %(until)s
"""

FIND_GAPS = """
    SELECT previous, position
    FROM (
        SELECT position, lag(position, 1, 0::bigint) OVER (ORDER BY position) AS previous
        FROM event WHERE partition = %(partition)s AND position <= %(until)s
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

# Ids are found in no index, so that this is one statement about the whole log. It holds a snapshot
# as long as it takes to sort them, which Postgres does on disk when there are many.
FIND_REPEATED_IDS = """
    SELECT meta ->> 'event_id'
    FROM event
    WHERE meta ->> 'event_id' IS NOT NULL
    GROUP BY meta ->> 'event_id'
    HAVING count(*) > 1
    LIMIT 20
"""

FIND_EVENTS = """
    SELECT meta ->> 'event_id', array_agg(partition || ':' || position ORDER BY partition, position)
    FROM event
    WHERE meta ->> 'event_id' = ANY (%(event_ids)s)
    GROUP BY meta ->> 'event_id'
    ORDER BY 2
"""

READ_RELAY_CHECKPOINTS = "SELECT partition, position FROM relay_checkpoint ORDER BY partition"


def read_bounds(log: Connection[Any], findings: Findings) -> dict[int, int]:
    """Partition -> its last position; what is written from now on is none of our business."""
    bounds = {}
    for partition, head, last in log.execute(READ_BOUNDS).fetchall():
        bounds[partition] = last
        if last != head:
            findings.add(f"log: partition {partition} ends at {last}, and its head says {head}")
    return bounds


def read_relayed(log: Connection[Any]) -> dict[int, int]:
    """Partition -> how far the relay has published, as the connection's transaction sees it."""
    return dict(log.execute(READ_RELAY_CHECKPOINTS).fetchall())


def check_positions(log: Connection[Any], bounds: Mapping[int, int], findings: Findings) -> None:
    """Look at every position up to the bounds, some at a time."""
    for partition, bound in bounds.items():
        events = 0
        for after, until in _slices(bound):
            key = {"partition": partition, "after": after, "until": until}
            row = log.execute(COUNT_POSITIONS, key).fetchone()
            events += row[0] if row else 0
            for position, same in log.execute(FIND_TIME_STEPS_BACK, key).fetchall():
                stands = "no younger" if same else "older"
                findings.add(
                    f"log: the event at {partition}:{position} is {stands} than the one before it"
                )
        if events != bound:
            _report_gaps(log, partition, bound, findings)


def _slices(bound: int) -> Iterator[tuple[int, int]]:
    for after in range(0, bound, POSITIONS_PER_STATEMENT):
        yield after, min(after + POSITIONS_PER_STATEMENT, bound)


def _report_gaps(log: Connection[Any], partition: int, bound: int, findings: Findings) -> None:
    key = {"partition": partition, "until": bound}
    for previous, position in log.execute(FIND_GAPS, key).fetchall():
        findings.add(f"log: partition {partition} has nothing between {previous} and {position}")


def check_event_ids(log: Connection[Any], findings: Findings) -> None:
    """No two events have one id: whoever follows the log would take the second for the first."""
    repeated = [event_id for (event_id,) in log.execute(FIND_REPEATED_IDS).fetchall()]
    if repeated:
        for event_id, places in log.execute(FIND_EVENTS, {"event_ids": repeated}).fetchall():
            findings.add(f"log: the events at {', '.join(places[:10])} have one id, {event_id}")


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
