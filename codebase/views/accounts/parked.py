"""Which requests for an account with all its agents ask for what is parked; see web/parked.py."""

from __future__ import annotations

from psycopg import sql

from codebase.web.parked import asking_by_id, is_parked

# What was removed stays as it is. Whose an agent is of which there is no row yet is not known here:
# a header tells of it. The order has agents found by an index, as in pages_by_name.py.
ASKING_FOR_ITS_AGENTS = """
    SELECT asked.ordinal
    FROM unnest(%(clients)b::text[], {ids}::uuid[]) WITH ORDINALITY AS asked (client, id, ordinal)
    JOIN {accounts} AS account
        ON account.id = asked.id AND (asked.client IS NULL OR account.client = asked.client)
    CROSS JOIN LATERAL (
        SELECT FROM {agents} AS agent
        CROSS JOIN LATERAL ({is_parked}) AS parked
        WHERE agent.account_id >= account.id AND agent.account_id <= account.id
          AND agent.removed_at IS NULL
        ORDER BY agent.account_id
        LIMIT 1
    ) AS its_agent
"""


def asking_for_whole_account(accounts: str, agents: str, ids: str = "ids") -> str:
    """The query for requests that name an account which is parked itself, or has a parked agent.

    Args:
        accounts: their table, with `id` and `client`.
        agents: their table, with `id`, `account_id` and `removed_at`.
        ids: the argument that holds the account's id; `clients` holds whose it must be.
    """
    its_agents = sql.SQL(ASKING_FOR_ITS_AGENTS).format(
        ids=sql.Placeholder(ids, "b"),
        accounts=sql.Identifier(accounts),
        agents=sql.Identifier(agents),
        is_parked=is_parked("agent", "id"),
    )
    return f"{asking_by_id(accounts, ids)} UNION ALL {its_agents.as_string()}"
