"""The agents that compliance shows: found by name, e-mail address or id, page by page."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any
from uuid import UUID

from fastapi import Request
from pydantic import BaseModel

from codebase.model.accounts.account import Region
from codebase.model.accounts.agent import AGENT
from codebase.model.refusals import NotFound
from codebase.services.compliance import queries
from codebase.web.consistent_reads import ConsistentReads, Query
from codebase.web.exchange import caller_of
from codebase.web.pages import PageSize
from codebase.web.personal import Personal
from codebase.web.schemas import example

UNSTORABLE = re.compile("[\0\ud800-\udfff]")


class Agent(BaseModel):
    """An agent that has not been removed."""

    model_config = example(
        id="3f493fce-6c0a-4e20-8c1c-15c8fca1b8fe",
        account_id="6f1c2b1e-58f4-4f0e-9d2a-6b7d5a0c9e11",
        name="Bo Lind",
        email="bo.lind@blue.example",
        region="emea",
        blocked=False,
    )

    id: UUID
    account_id: UUID
    name: Personal[str]
    email: Personal[str]
    region: Region
    blocked: bool


class AgentPage(BaseModel):
    """Agents by name; `last_reference` leads to the next ones, and is null on an empty page."""

    items: list[Agent]
    last_reference: UUID | None
    size: PageSize


class Agents:
    """The projected agents, read.

    Args:
        reads: of the store that compliance's projector fills.
    """

    def __init__(self, reads: ConsistentReads) -> None:
        self._reads = reads
        query = partial(reads.query, categories={AGENT.category})
        self._by_name = query(queries.AGENTS_BY_NAME, queries.NAME_ARGUMENTS)
        self._blocked = query(queries.BLOCKED_BY_NAME, queries.NAME_ARGUMENTS)
        self._by_email = query(queries.AGENT_BY_EMAIL, queries.EMAIL_ARGUMENTS)
        self._by_id = query(
            queries.AGENTS_BY_ID,
            queries.ID_ARGUMENTS,
            asking_for_parked=queries.ASKING_FOR_PARKED,
        )

    async def page(
        self, request: Request, search: str, *, blocked: bool, reference: UUID | None, size: int
    ) -> AgentPage:
        """Agents that `search` finds.

        Args:
            request: whose consistency token counts.
            search: the beginning of a name, an e-mail address, or the id of an agent or account.
            blocked: only those who are blocked; for names.
            reference: the last agent of the page before.
            size: of a page.

        Raises:
            NotFound: `reference` names no agent.
            StreamParked: `search` is the id of an agent that is parked.
            HttpProblem: 403 for an operator who searches by name or e-mail address.
        """
        by_name = self._blocked if blocked else self._by_name
        rows = await self._rows(request, search.strip(), by_name, reference, size)
        if rows and not rows[0][0]:
            raise NotFound("last_reference names no agent")
        items = [_agent(row) for row in rows if row[1] is not None]
        return AgentPage(items=items, last_reference=items[-1].id if items else None, size=size)

    async def _rows(
        self, request: Request, search: str, by_name: Query, reference: UUID | None, size: int
    ) -> Sequence[Sequence[Any]]:
        if UNSTORABLE.search(search):
            return []
        with suppress(ValueError):
            return await self._reads.fetch(request, self._by_id, UUID(search), reference, size)
        if search:
            caller_of(request).require_to_see_personal_values()
        if "@" in search:
            return await self._reads.fetch(request, self._by_email, search)
        return await self._reads.fetch(request, by_name, search, reference, size)


def _agent(row: Sequence[Any]) -> Agent:
    _, agent_id, account_id, name, email, region, blocked = row
    return Agent(
        id=agent_id,
        account_id=account_id,
        name=name,
        email=email,
        region=region,
        blocked=blocked,
    )
