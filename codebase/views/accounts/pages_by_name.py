"""Pages of accounts or of agents by name: the query that both lists are.

The row after `reference` is found by an index, so that every page costs the same. Of the two ways
into the table a request takes one, depending on whether it asks for one client's rows or for
everybody's (client NULL), see Caller.only_client. How many requests share one query: see
web/group_read.py.

The whole order of a list is compared, with the client in front. Were that one just equal, Postgres
might take an index without it and look at row after row, as it does where a single client has
nearly everything.
"""

from __future__ import annotations

from collections.abc import Iterable

from psycopg import sql

PAGE_ARGUMENTS = ("clients", "references", "sizes")

# The first page starts before the beginning: no name is empty.
PAGES = """
    SELECT asked.ordinal, asked.reference IS NULL OR boundary.id IS NOT NULL,
           page.items::text, page.items -> -1 ->> 'id'
    FROM unnest(%(clients)b::text[], %(references)b::uuid[], %(sizes)b::integer[])
        WITH ORDINALITY AS asked (client, reference, size, ordinal)
    LEFT JOIN {table} AS boundary
        ON boundary.id = asked.reference
       AND (asked.client IS NULL OR boundary.client = asked.client)
    CROSS JOIN LATERAL (
        SELECT CASE WHEN asked.reference IS NULL THEN '' ELSE boundary.name END AS name,
               coalesce(asked.reference, '00000000-0000-0000-0000-000000000000') AS id
    ) AS start
    LEFT JOIN LATERAL (
        SELECT json_agg(found) AS items
        FROM (
            (
                SELECT {shown}
                FROM {table}
                WHERE client <= asked.client AND {ended_at} IS NULL
                  AND (client, name, id) > (asked.client, start.name, start.id)
                ORDER BY client, name, id
                LIMIT asked.size
            )
            UNION ALL
            (
                SELECT {shown}
                FROM {table}
                WHERE asked.client IS NULL AND {ended_at} IS NULL
                  AND (name, id) > (start.name, start.id)
                ORDER BY name, id
                LIMIT asked.size
            )
        ) AS found
    ) AS page ON true
"""


def pages_by_name(table: str, shown: Iterable[str], ended_at: str) -> str:
    """The query for one list; each of its rows has whether the reference is known, items, last id.

    Args:
        table: with the columns `id`, `client`, `name`, and indexes on both orders.
        shown: the columns that an item has, in its order.
        ended_at: the column that is NULL for those who are listed.
    """
    return (
        sql.SQL(PAGES)
        .format(
            table=sql.Identifier(table),
            shown=sql.SQL(", ").join(map(sql.Identifier, shown)),
            ended_at=sql.Identifier(ended_at),
        )
        .as_string()
    )
