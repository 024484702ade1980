"""When agents were in use, as tables keep it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from psycopg.types.multirange import Multirange
from psycopg.types.range import Range

from codebase.model.accounts.usage import Interval


def multirange(intervals: Iterable[Interval]) -> Multirange[datetime]:
    """Intervals as Postgres keeps them."""
    return Multirange(Range(each.begin, each.end) for each in intervals)
