"""Accounts with so many agents that they are filled in by SQL: in a log, and in a read model."""

from __future__ import annotations

from uuid import UUID

from bench import deciding, people
from bench.filling import append_pages, insert_copies, settle, templates_of
from bench.lab import as_owner
from codebase.engine.commands.history import History
from codebase.foundation.settings import Settings
from codebase.model.aggregate import Claim

CREATE_AGENTS = """
    CREATE TEMPORARY TABLE agent AS
    SELECT number, gen_random_uuid() AS id, gen_random_uuid()::text AS key
    FROM generate_series(1, %(agents)s) AS number
"""
CLAIM_FOR_EACH = """
    INSERT INTO claim (kind, value, stream_id)
    SELECT %(kind)s, replace(replace(%(value)s, %(id)s, id::text), %(key)s, key), id FROM agent
"""

FILL_ACCOUNT = """
    INSERT INTO account (id, client, name, email, region, vip)
    VALUES (%(account)s, 'local', 'a large account', 'large@accounts.example', 'emea', false)
"""
FILL_AGENTS = """
    INSERT INTO agent (id, account_id, client, name, email, blocked)
    SELECT gen_random_uuid(), %(account)s, 'local', 'agent ' || number,
           number || '@agents.example', false
    FROM generate_series(1, %(agents)s) AS number
"""


def found_large_company(settings: Settings, agents: int) -> UUID:
    """Bring an empty log of one partition an account with so many agents; the account's id.

    The agents are copies of one, with ids, keys, addresses and claims of their own.
    """
    account = people.opening()
    agent = people.creating(account.stream_id)
    histories = {account.stream_id: History()}
    append_pages(settings, [deciding.new_events([account], histories)])
    [created] = deciding.new_events([agent], histories)
    templates = templates_of(settings, [created])
    own = {"id": str(agent.stream_id), "key": agent.idempotence_key}
    with as_owner(settings, "write_model") as owner:
        owner.execute(CREATE_AGENTS, {"agents": agents})
        insert_copies(
            owner,
            templates,
            "CROSS JOIN agent AS copy",
            columns={
                "position": "1 + copy.number",
                "stream_id": "copy.id",
                "recorded_at": "template.recorded_at + copy.number * interval '1 microsecond'",
            },
            texts={str(agent.stream_id): "copy.id::text", str(agent.idempotence_key): "copy.key"},
            values={},
        )
        for guard in created.guards:
            if isinstance(guard, Claim):
                owner.execute(CLAIM_FOR_EACH, {"kind": guard.kind, "value": guard.value, **own})
        owner.execute("VACUUM (ANALYZE) claim")
        settle(owner)
    return account.stream_id


def fill_read_model(settings: Settings, account_id: UUID, *, agents: int) -> None:
    """Show an account and so many agents, whatever the log holds."""
    with as_owner(settings, "read_model") as owner:
        numbers = {"account": account_id, "agents": agents}
        owner.execute(FILL_ACCOUNT, numbers)
        owner.execute(FILL_AGENTS, numbers)
        owner.execute("VACUUM (ANALYZE) account, agent")
