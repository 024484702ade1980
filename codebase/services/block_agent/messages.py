"""The commands that block_agent takes by message."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from uuid import UUID

from codebase.engine.commands.fingerprint import IdempotenceKey
from codebase.engine.commands.submission import Submission
from codebase.engine.messages.command_message import SENDER, CommandMessage, Reader
from codebase.model.accounts.agent import AGENT, BlockAgent, UnblockAgent
from codebase.web.fields import FromText, Text
from codebase.web.request_body import RequestBody
from codebase.web.schemas import example

QUEUE = "block_agent"
# Everything, because nobody else takes commands: one with a key that nobody knows is dead-lettered
# here, instead of being dropped by the broker.
TOPICS = ("#",)
BARE_UUID = re.compile(rb"\s*(\"?)([0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})\1\s*")


class Reason(RequestBody):
    """Why an agent is blocked or unblocked, for those who read the events."""

    model_config = example(reason="The account is 60 days overdue")

    reason: Text | None = None


class AgentMessage(Reason):
    """Which agent to block or unblock; the same key is the same command."""

    model_config = example(
        agent_id="3f493fce-6c0a-4e20-8c1c-15c8fca1b8fe",
        idempotence_key="0b3a1f0e-7a5e-4c53-8f0e-3a8f8f3f2c11",
        reason="The account is 60 days overdue",
    )

    agent_id: FromText[UUID]
    idempotence_key: IdempotenceKey


def read(
    name: str, command: type[BlockAgent | UnblockAgent], message: CommandMessage
) -> Submission:
    """The command that a message stands for: a JSON object, or nothing but the agent's id.

    Raises:
        MalformedError: it is neither.
    """
    bare = BARE_UUID.fullmatch(message.text)
    if bare:
        agent_id, reason, key = UUID(bare[2].decode()), None, None
    else:
        body = message.read(AgentMessage)
        agent_id, reason, key = body.agent_id, body.reason, body.idempotence_key
    return message.submission(
        name,
        AGENT,
        agent_id,
        command(agent_id=agent_id, actor=SENDER, reason=reason),
        key=key,
        body=Reason(reason=reason),
        path={"agent_id": agent_id},
    )


READERS: Mapping[str, Reader] = {
    "agent.block": partial(read, "block_agent", BlockAgent),
    "agent.unblock": partial(read, "unblock_agent", UnblockAgent),
}
BODIES: Mapping[str, type[RequestBody]] = dict.fromkeys(READERS, AgentMessage)
"""For the documentation."""
