"""Closing one account, or all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from uuid import UUID

from codebase.engine.commands.bus import CommandBus
from codebase.engine.commands.submission import Along, Submission
from codebase.model.accounts.account import ACCOUNT, OPEN_ACCOUNT, CloseAccount, agents_of
from codebase.model.accounts.agent import AGENT, Because, RemoveAgent
from codebase.web import consistency_token
from codebase.web.shell import Command

AT_A_TIME = 8
"""Few, because each may take thousands of agents along, and a batch has seconds to be written."""


def closing(request: Command[None], account_id: UUID) -> Submission:
    """The account is closed and all its agents are removed, or nothing happens."""
    removal = RemoveAgent(
        account_id=account_id, actor=request.actor, because=Because.ACCOUNT_CLOSED
    )
    return request.submission(
        ACCOUNT,
        account_id,
        CloseAccount(actor=request.actor),
        along=Along(agents_of(account_id), AGENT, removal),
    )


async def close_all(bus: CommandBus, request: Command[None]) -> consistency_token.Positions:
    """Close every account that is open now, each by a command of its own; where the log is then.

    Raises:
        ServiceUnavailable: the log did not answer in time; some accounts are closed, and sent
            again the request closes the others.
    """
    accounts = iter(await bus.holders(OPEN_ACCOUNT))
    try:
        async with asyncio.TaskGroup() as group:
            closers = [
                group.create_task(_close_in_turn(bus, request, accounts)) for _ in range(AT_A_TIME)
            ]
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    seen: consistency_token.Positions = {}
    for closer in closers:
        seen = consistency_token.merge(seen, closer.result().items())
    return seen


async def _close_in_turn(
    bus: CommandBus, request: Command[None], accounts: Iterator[str]
) -> consistency_token.Positions:
    seen: consistency_token.Positions = {}
    for account_id in accounts:
        # Without the request's key, which in this account's stream may stand for something else.
        submission = replace(closing(request, UUID(account_id)), idempotence_key=None)
        outcome = await bus.execute(submission)
        seen = consistency_token.merge(seen, outcome.positions.items())
    return seen
