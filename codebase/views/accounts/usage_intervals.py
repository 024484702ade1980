"""When agents were in use: how teams that charge for it keep intervals, and add them up.

Each team has a table of its own, so that none waits for another's changes, with the columns `id`,
`usage` (intervals; what goes on has no upper bound), `removed_at` and `version` (of the stream: an
event that is known already changes nothing, however late it comes again).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from psycopg import sql
from psycopg.types.multirange import Multirange
from psycopg.types.range import Range

from codebase.model.accounts.account import Region
from codebase.model.accounts.agent import Agent, Event
from codebase.model.accounts.usage import PRICES, total_charge, usage_of
from codebase.views.accounts.histories import History

# Each event switches use on or off, until the agent's next one. What an agent had been in use
# before the first of them stays; what these add is joined to it.
SWITCH = """
    UPDATE {table} AS agent
    SET usage = agent.usage * tstzmultirange(tstzrange(NULL, changed.since)) + changed.usage,
        removed_at = coalesce(agent.removed_at, changed.removed_at),
        version = changed.version
    FROM (
        SELECT stream_id, min(recorded_at) AS since, max(version) AS version,
               min(recorded_at) FILTER (WHERE type = 'AgentRemoved') AS removed_at,
               coalesce(
                   range_agg(tstzrange(recorded_at, next_at))
                       FILTER (WHERE type IN ('AgentCreated', 'AgentUnblocked')),
                   '{{}}'
               ) AS usage
        FROM (
            SELECT event.stream_id, event.version, event.type, event.recorded_at,
                   lead(event.recorded_at) OVER (
                       PARTITION BY event.stream_id ORDER BY event.version
                   ) AS next_at
            FROM unnest(%(stream_id)b::uuid[], %(version)b::integer[], %(type)b::text[],
                        %(recorded_at)b::timestamptz[])
                AS event (stream_id, version, type, recorded_at)
            JOIN {table} AS known ON known.id = event.stream_id
            WHERE event.version > known.version
        ) AS switch
        GROUP BY stream_id
    ) AS changed
    WHERE agent.id = changed.stream_id
"""

MONTH_ARGUMENTS = ("since", "until")

# How long each agent was in use in a month, in microseconds.
USE_OF_MONTH = """
    unnest(%(since)b::timestamptz[], %(until)b::timestamptz[])
        WITH ORDINALITY AS asked (since, until, ordinal)
    CROSS JOIN LATERAL (
        SELECT {group}, array_agg(microseconds) AS microseconds
        FROM (
            SELECT {group}, microseconds_of_use(usage, asked.since, asked.until) AS microseconds
            FROM {table}
            WHERE created_at < asked.until
              AND (removed_at IS NULL OR removed_at > asked.since)
        ) AS line
        WHERE microseconds > 0
        GROUP BY {group}
    ) AS used
"""

USE_BY_REGION = "SELECT asked.ordinal, used.region, used.microseconds FROM {use}"


def switching(table: str) -> str:
    """The statement that switches the use of agents in `table` on and off, event by event."""
    return sql.SQL(SWITCH).format(table=sql.Identifier(table)).as_string()


def use_of_month(table: str, group: str) -> sql.Composed:
    """What a query for `MONTH_ARGUMENTS` selects from: `asked`, and what was `used` in that month.

    Args:
        table: of agents, with `created_at` and the column `group` as well.
        group: for each value of which `used.microseconds` has an element for each agent in use.
    """
    return sql.SQL(USE_OF_MONTH).format(table=sql.Identifier(table), group=sql.Identifier(group))


def use_by_region(table: str) -> str:
    """The query for the use in a month of the agents in `table`, region by region."""
    return sql.SQL(USE_BY_REGION).format(use=use_of_month(table, "region")).as_string()


def charges_by_region(rows: Iterable[Sequence[Any]]) -> Mapping[Region, Decimal]:
    """What the rows of `use_by_region` come to; nothing for a region without use."""
    return {
        Region(region): total_charge(microseconds, PRICES[Region(region)])
        for region, microseconds in rows
    }


def usage_of_history(history: History[Event, Agent]) -> Multirange[datetime]:
    """When an agent was in use by the model's own reckoning, as Postgres keeps it."""
    return Multirange(Range(each.begin, each.end) for each in usage_of(history.events))
