"""From one log to the other: at every moment at most one of them takes events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from psycopg import Connection, IsolationLevel

from codebase.foundation.failpoints import failpoint
from codebase.operations.log_copy.ends import CLOSE
from codebase.operations.log_copy.errors import CopyError
from codebase.operations.log_copy.tables import replace_all

FIND_WRITERS = """
    SELECT DISTINCT usename FROM pg_stat_activity
    WHERE datname = current_database()
      AND usename IN ('command_service', 'event_relay', 'reaction_worker')
    ORDER BY usename
"""
COUNT_EVENTS = "SELECT count(*) FROM event WHERE partition = %(partition)s"
OPEN = "SELECT open_log()"
# What comes next is numbered after what was copied.
NUMBER_ON = """
    SELECT setval(pg_get_serial_sequence('reaction.intent', 'number'), max(number))
    FROM reaction.intent
    HAVING max(number) IS NOT NULL
"""


def check_writers(source: Connection[Any]) -> None:
    """Refuse while somebody is connected who writes to the log, relays it, or acts on it.

    Raises:
        CopyError: one is.
    """
    writers = [role for (role,) in source.execute(FIND_WRITERS).fetchall()]
    if writers:
        raise CopyError(f"services are still connected to the log, as {' and '.join(writers)}")


def check_counts(target: Connection[Any], heads: Mapping[int, int]) -> None:
    """Refuse when a partition has not as many events as its last position says.

    Raises:
        CopyError: one has more, or fewer.
    """
    for partition, head in heads.items():
        if target.execute(COUNT_EVENTS, {"partition": partition}).fetchone() != (head,):
            raise CopyError(f"partition {partition} there has not the {head} events of its head")


def close_source(source: Connection[Any]) -> None:
    """Let the log take no event from now on; those that are being written are waited for.

    Raises:
        CopyError: somebody has come since it was looked at, who may be about to do what is noted
            as not done; then the log takes events again.
    """
    source.execute(CLOSE)
    failpoint("log_copy_closed")
    try:
        check_writers(source)
    except CopyError:
        source.execute(OPEN)
        raise


def take_over(source: Connection[Any], target: Connection[Any]) -> None:
    """Have in the target what stands beside the log, and let it take events: all or nothing.

    Claims and budgets are copied, and not computed from the events: they are of the very moment at
    which the log was closed, and what `verify` computes is compared with something else.
    """
    source.isolation_level = IsolationLevel.REPEATABLE_READ
    with source.transaction(), target.transaction():
        replace_all(source, target)
        target.execute(NUMBER_ON)
        target.execute(OPEN)
        failpoint("log_copy_before_opening")
