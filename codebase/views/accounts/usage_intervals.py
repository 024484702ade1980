"""When agents were in use: how teams that charge for it keep intervals, and add them up.

Each team has a table of its own, so that none waits for another's changes, with the columns `id`,
`usage` (intervals; what goes on has no upper bound), `removed_at` and `version` (of the stream: an
event that is known already changes nothing, however late it comes again).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from psycopg import sql
from psycopg.types.multirange import Multirange
from psycopg.types.range import Range

from codebase.model.accounts.account import Region
from codebase.model.accounts.agent import Agent, Event
from codebase.model.accounts.usage import FIRST_PRICES, Part, Tariff, usage_of
from codebase.views.accounts.histories import History
from codebase.views.accounts.prices_of_use import parts

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

# How long each agent was in use in a month, in microseconds, price by price: see `parts`.
USE_OF_MONTH = """
    unnest(%(since)b::timestamptz[], %(until)b::timestamptz[])
        WITH ORDINALITY AS asked (since, until, ordinal)
    CROSS JOIN unnest({regions}::text[]) AS of_region (name)
    CROSS JOIN LATERAL ({parts}) AS part
    CROSS JOIN LATERAL (
        SELECT {group}, array_agg(microseconds) AS microseconds
        FROM (
            SELECT {group}, microseconds_by_part(usage, part.bounds) AS microseconds
            FROM {table}
            WHERE region = of_region.name AND created_at < asked.until
              AND (removed_at IS NULL OR removed_at > asked.since)
            OFFSET 0 -- so that each line is reckoned once
        ) AS line
        WHERE 0 < ANY (microseconds)
        GROUP BY {group}
    ) AS used
"""

USE_BY_REGION = """
    SELECT asked.ordinal, used.region, part.begins, part.prices, used.microseconds FROM {use}
"""


def switching(table: str) -> str:
    """The statement that switches the use of agents in `table` on and off, event by event."""
    return sql.SQL(SWITCH).format(table=sql.Identifier(table)).as_string()


def use_of_month(table: str, prices: str, group: str) -> sql.Composed:
    """What a query for `MONTH_ARGUMENTS` selects from: `asked`, and what was `used` in that month.

    `part` has the region's prices in that month, as `parts_of_month` takes them.

    Args:
        table: of agents, with `created_at`, `region` and the column `group` as well.
        prices: the team's table of them.
        group: for each value of which, region by region, `used.microseconds` has a row for each
            agent in use, with a number for each part.
    """
    return sql.SQL(USE_OF_MONTH).format(
        table=sql.Identifier(table),
        group=sql.Identifier(group),
        regions=sql.Literal([str(region) for region in Region]),
        parts=parts(prices, sql.Identifier("of_region", "name")),
    )


def use_by_region(table: str, prices: str) -> str:
    """The query for the use in a month of the agents in `table`, region by region."""
    return sql.SQL(USE_BY_REGION).format(use=use_of_month(table, prices, "region")).as_string()


def parts_of_month(
    region: Region, begins: Iterable[datetime], prices: Iterable[Decimal | None]
) -> list[Part]:
    """The parts of a month; before the first price that was set, the one of the beginning holds."""
    first = FIRST_PRICES[region].per_hour
    return [
        Part(begin.astimezone(UTC), first if price is None else price)
        for begin, price in zip(begins, prices, strict=True)
    ]


def tariff_of(found: Iterable[Part]) -> Tariff:
    """What use in the parts of a time costs."""
    return Tariff([part.per_hour for part in found])


def charges_by_region(rows: Iterable[Sequence[Any]]) -> Mapping[Region, Decimal]:
    """What the rows of `use_by_region` come to; nothing for a region without use."""
    charges: dict[Region, Decimal] = {}
    for name, begins, prices, microseconds in rows:
        region = Region(name)
        tariff = tariff_of(parts_of_month(region, begins, prices))
        charges[region] = tariff.total(microseconds)
    return charges


def usage_of_history(history: History[Event, Agent]) -> Multirange[datetime]:
    """When an agent was in use by the model's own reckoning, as Postgres keeps it."""
    return Multirange(Range(each.begin, each.end) for each in usage_of(history.events))
