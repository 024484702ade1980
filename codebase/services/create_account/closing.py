"""Closing one account, or all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from uuid import UUID

from codebase.infra import consistency
from codebase.infra.batch import Along, Submission
from codebase.infra.command_bus import CommandBus
from codebase.infra.http import Command
from codebase.model.account import ACCOUNT, OPEN_ACCOUNT, CloseAccount, agents_of
from codebase.model.agent import AGENT, Because, RemoveAgent

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


async def close_all(bus: CommandBus, request: Command[None]) -> consistency.Positions:
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
    seen: consistency.Positions = {}
    for closer in closers:
        seen = consistency.merge(seen, closer.result().items())
    return seen


async def _close_in_turn(
    bus: CommandBus, request: Command[None], accounts: Iterator[str]
) -> consistency.Positions:
    seen: consistency.Positions = {}
    for account_id in accounts:
        # Without the request's key, which in this account's stream may stand for something else.
        submission = replace(closing(request, UUID(account_id)), idempotence_key=None)
        outcome = await bus.execute(submission)
        seen = consistency.merge(seen, outcome.positions.items())
    return seen
