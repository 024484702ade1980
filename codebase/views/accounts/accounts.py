"""The view of accounts: one row for each, also when it is closed; open ones are listed by name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Cursor, sql
from pydantic import BaseModel

from codebase.engine.log.events import RecordedEvent
from codebase.engine.projections.logged_events import LoggedEvent
from codebase.engine.projections.projection import Projection, of_type, write
from codebase.model.accounts.account import (
    ACCOUNT,
    AccountClosed,
    AccountOpened,
    Region,
)
from codebase.model.accounts.account import (
    Account as State,
)
from codebase.views.accounts.agents import BO, Agent
from codebase.views.accounts.histories import account_history
from codebase.views.accounts.pages_by_name import pages_by_name
from codebase.views.accounts.parked import asking_for_whole_account
from codebase.web.pages import PageSize
from codebase.web.parked import asking_by_id
from codebase.web.personal import Personal
from codebase.web.schemas import example


@dataclass(frozen=True, kw_only=True, slots=True)
class AccountRow:
    """One account; `closed_at` is None while it is open."""

    id: UUID
    client: str
    name: str
    email: str
    region: str
    vip: bool
    closed_at: datetime | None


INSERT_OPENED = """
    INSERT INTO account (id, client, name, email, region, vip)
    SELECT event.stream_id, opened.client, opened.name, opened.email, opened.region, opened.vip
    FROM unnest(%(stream_id)b::uuid[], %(data)b::text[]::jsonb[]) AS event (stream_id, data),
        jsonb_to_record(event.data) AS opened (
            client text, name text, email text, region text, vip boolean
        )
"""

CLOSE = """
    UPDATE {table} AS account
    SET closed_at = coalesce(account.closed_at, event.recorded_at)
    FROM unnest(%(stream_id)b::uuid[], %(recorded_at)b::timestamptz[])
        AS event (stream_id, recorded_at)
    WHERE account.id = event.stream_id
"""


def closing(table: str) -> str:
    """The statement that notes closings in a table of accounts, with `id` and `closed_at`."""
    return sql.SQL(CLOSE).format(table=sql.Identifier(table)).as_string()


CLOSE_ACCOUNT = closing("account")


def apply(cursor: Cursor[Any], events: Sequence[LoggedEvent]) -> None:
    """Insert who was opened, then note who was closed."""
    write(cursor, INSERT_OPENED, of_type(events, AccountOpened))
    write(cursor, CLOSE_ACCOUNT, of_type(events, AccountClosed))


def expected_rows(account_id: UUID, recorded: Sequence[RecordedEvent]) -> Iterable[AccountRow]:
    """The row that an account's stream comes to, by the model's fold."""
    history = account_history(recorded)
    if history is not None:
        opened = history.state.opened
        yield AccountRow(
            id=account_id,
            client=opened.client,
            name=opened.name,
            email=opened.email,
            region=opened.region,
            vip=opened.vip,
            closed_at=history.ended_at,
        )


ACCOUNTS = Projection(
    name="accounts",
    aggregates=(ACCOUNT,),
    tables=("account",),
    apply=apply,
    expected_rows=expected_rows,
)


BLUE = {
    "id": "6f1c2b1e-58f4-4f0e-9d2a-6b7d5a0c9e11",
    "name": "Blue",
    "email": "office@blue.example",
    "region": "emea",
    "vip": True,
}


class Account(BaseModel):
    """An open account."""

    model_config = example(**BLUE)

    id: UUID
    name: Personal[str]
    email: Personal[str]
    region: Region
    vip: bool

    @classmethod
    def of(cls, account: State) -> Account:
        """What is shown of an account; from the log, before there is a row."""
        opened = account.opened
        return cls(
            id=opened.account_id,
            name=opened.name,
            email=opened.email,
            region=opened.region,
            vip=opened.vip,
        )


class AccountPage(BaseModel):
    """Accounts by name; `last_reference` leads to the next ones, and is null on an empty page."""

    items: list[Account]
    last_reference: UUID | None
    size: PageSize


class CompanyReport(Account):
    """An account with all its agents, by name."""

    model_config = example(**BLUE, agents=[BO])

    agents: list[Agent]


# For everybody's rows the client is NULL, see Caller.only_client.
ACCOUNT_ARGUMENTS = ("clients", "ids")
PAGES = pages_by_name("account", Account.model_fields, "closed_at")
CATEGORIES = frozenset({ACCOUNT.category})
ASKING_FOR_PARKED = asking_by_id("account")
ASKING_FOR_PARKED_REPORT = asking_for_whole_account("account", "agent")

ACCOUNTS_BY_ID = """
    SELECT asked.ordinal, row_to_json(shown)::text
    FROM unnest(%(clients)b::text[], %(ids)b::uuid[])
        WITH ORDINALITY AS asked (client, id, ordinal)
    JOIN account AS found ON found.id = asked.id
    CROSS JOIN LATERAL (
        SELECT found.id, found.name, found.email, found.region, found.vip
    ) AS shown
    WHERE found.closed_at IS NULL AND (asked.client IS NULL OR found.client = asked.client)
"""

# One page of a report; without a reference the first one. The last id leads to the next page, and
# is NULL on the last one. An account that was closed has no page any more, nor any agents.
# The account is compared as the first part of the order: see pages_by_name.py.
REPORT_ARGUMENTS = ("clients", "ids", "references", "sizes")
REPORT_PAGES = """
    SELECT asked.ordinal, row_to_json(shown)::text, coalesce(page.items::text, '[]'),
           CASE WHEN page.size = asked.size THEN page.items -> -1 ->> 'id' END
    FROM unnest(%(clients)b::text[], %(ids)b::uuid[], %(references)b::uuid[],
                %(sizes)b::integer[])
        WITH ORDINALITY AS asked (client, id, reference, size, ordinal)
    JOIN account AS found ON found.id = asked.id
    LEFT JOIN agent AS boundary
        ON boundary.id = asked.reference AND boundary.account_id = found.id
    CROSS JOIN LATERAL (
        SELECT json_agg(one) AS items, count(*) AS size
        FROM (
            SELECT id, account_id, name, email, blocked
            FROM agent
            WHERE account_id <= found.id AND removed_at IS NULL
              AND (account_id, name, id) > (
                  found.id,
                  CASE WHEN asked.reference IS NULL THEN '' ELSE boundary.name END,
                  coalesce(asked.reference, '00000000-0000-0000-0000-000000000000')
              )
            ORDER BY account_id, name, id
            LIMIT asked.size
        ) AS one
    ) AS page
    CROSS JOIN LATERAL (
        SELECT found.id, found.name, found.email, found.region, found.vip
    ) AS shown
    WHERE found.closed_at IS NULL AND (asked.client IS NULL OR found.client = asked.client)
"""
