"""The company report: an account with all its agents, however many there are."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import UUID

from fastapi import Request, Response

from codebase.model.accounts.account import account_not_found
from codebase.views.accounts.accounts import (
    ASKING_FOR_PARKED_REPORT,
    REPORT_ARGUMENTS,
    REPORT_PAGES,
)
from codebase.views.accounts.agents import CATEGORIES
from codebase.web.consistent_reads import ConsistentReads
from codebase.web.pages import ListInPieces, Piece, as_json, whole
from codebase.web.shell import caller_of

PAGE = 500
"""Agents of one report that are in memory at a time."""
AGENTS = "agents"


class Reports:
    """Reads reports page by page, each when the one before has been sent.

    Args:
        reads: the read model.
    """

    def __init__(self, reads: ConsistentReads) -> None:
        self._reads = reads
        self._pages = reads.query(
            REPORT_PAGES,
            REPORT_ARGUMENTS,
            categories=CATEGORIES,
            asking_for_parked=ASKING_FOR_PARKED_REPORT,
        )

    async def of(self, request: Request, account_id: UUID) -> Response:
        """The report on an account that the caller may see.

        Raises:
            NotFound: there is no such account.
        """
        pages = self._read(request, account_id)
        async for first, is_last in pages:
            if is_last:
                return as_json(whole(AGENTS, first))
            return ListInPieces(AGENTS, first, (piece async for piece, _ in pages))
        raise account_not_found(account_id)

    async def _read(self, request: Request, account_id: UUID) -> AsyncIterator[tuple[Piece, bool]]:
        """Each page, and whether it is the last one; none when there is no such account."""
        client, reference = caller_of(request).only_client, None
        while found := await self._reads.fetch(
            request, self._pages, client, account_id, reference, PAGE
        ):
            [(account, agents, reference)] = found
            yield (account, agents), reference is None
            if reference is None:
                return
